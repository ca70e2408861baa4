"""The README is a promise: its commands are run as they are written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faulty_hub import FaultyHubServer

ROOT = Path(__file__).parent.parent
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def blocks(mark: str) -> str:
    """Return the shell lines of all blocks of the README that are marked so."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return "\n".join(re.findall(rf"<!-- ci: {mark} -->\n```sh\n(.*?)\n```", text, re.DOTALL))


def run(script: str, folder: Path, **variables: str) -> str:
    """Run shell lines in `folder`, where `bundle` is ours, and return what they print."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euxc", script], cwd=folder, env=kept | {"PATH": path, "HOME": str(folder / "home")} | variables,
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_journey_runs_as_written(hub: FaultyHubServer, tmp_path: Path) -> None:
    """The commands of gateway and server, in their order, end in a cache that holds the model, vouched for."""
    shutil.copytree(ROOT / "manifests", tmp_path / "manifests")
    (tmp_path / "usb").mkdir()
    hub.publish(MINILM, {"model.safetensors": os.urandom(3000), "config.json": b"{}", "onnx/model.onnx": b"left out"})

    printed = run(f"{blocks('journey')}\n{blocks('signatures')}", tmp_path, HF_ENDPOINT=hub.endpoint)

    folder = tmp_path / "home/.cache/huggingface/hub/models--sentence-transformers--all-MiniLM-L6-v2"
    snapshot = folder / "snapshots" / (folder / "refs/main").read_text()
    assert sorted(path.name for path in snapshot.iterdir()) == ["config.json", "model.safetensors"]
    assert "export HF_HUB_OFFLINE=1" in printed
    assert "NOT SIGNED" in printed and printed.count("signed by models@example.com, ED25519") == 2


def test_the_manifest_shown_is_the_one_in_the_folder() -> None:
    """What the README calls the manifest's content is its content."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    shown = re.search(r"\(manifests/all-minilm-l6-v2.toml\):\n\n```toml\n(.*?)```", readme, re.DOTALL)

    assert shown is not None
    assert (ROOT / "manifests/all-minilm-l6-v2.toml").read_text().endswith(shown[1])


@pytest.mark.slow
def test_the_server_side_installs_without_network_from_carried_wheels(tmp_path: Path) -> None:
    """Wheels made on the gateway are all that a server's virtual environment needs."""
    shutil.copytree(ROOT, tmp_path / "checkout", ignore=shutil.ignore_patterns(".*", "build", "*.egg-info"))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    path = f"{tmp_path / 'venv/bin'}:{os.environ['PATH']}"

    run(blocks("server"), tmp_path / "checkout", PATH=path)

    run("bundle --version; hf-bundle --help; bundle verify --help", tmp_path, PATH=path)
