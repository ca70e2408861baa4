"""`bundle` itself: the list of verbs, and the journey in a screenful."""

from __future__ import annotations

import click

import bundler
from bundler.cli.build import build
from bundler.cli.clean import clean
from bundler.cli.demo import demo
from bundler.cli.doctor import doctor
from bundler.cli.inspect import inspect
from bundler.cli.install import install
from bundler.cli.inventory import inventory
from bundler.cli.lock import lock
from bundler.cli.rollback import rollback
from bundler.cli.sign import sign
from bundler.cli.status import status
from bundler.cli.verify import verify


class _InOrder(click.Group):
    """Lists commands in the order of the journey."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(bundler.__version__, prog_name="bundle")
def main() -> None:
    """Move Hugging Face models into places without a network.

    \b
    On the connected side, with a manifest that says what you want:
      bundle doctor speech.toml         can a build start here?
      bundle lock speech.toml           pin every repository to a commit, every file to a digest
      bundle build speech.toml -o OUT   fetch, prove and pack it all into OUT/speech
      bundle sign OUT/speech --key K    vouch for it
    Carry OUT/speech to the other side, whole or over several sticks. There:
      bundle inspect /mnt/usb/speech    what is inside, from where, what can run
      bundle verify /mnt/usb/speech     prove every byte
      bundle install /mnt/usb/speech    unpack into the Hugging Face cache
      bundle status                     prove again, at any time, what was installed
    Then `HF_HUB_OFFLINE=1` and the repository's id is all that your program needs.

    A whole journey with a tiny model, on this machine, with no network: bundle demo
    """


for command in (doctor, lock, build, sign, inspect, verify, install, status, rollback, inventory, clean, demo):
    main.add_command(command)
