"""`bundle` itself: the list of verbs, and the journey in a screenful."""

from __future__ import annotations

from importlib import import_module

import click

import bundler

_VERBS = (
    *("doctor", "lock", "build", "sign"),
    *("inspect", "verify", "install", "status", "rollback", "inventory"),
    *("clean", "demo"),
)
"""In the order of the journey. Each is a command, in the module of its name."""


class _Verbs(click.Group):
    """Imports only the command that is asked for: what one side needs, the other may not have, nor wait for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        command = getattr(import_module(f"bundler.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)  # for mypy
        return command


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
