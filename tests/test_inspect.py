"""What an officer sees of a bundle, from its index alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.errors import DamagedBundleError, IncompleteBundleError
from bundler.format.inspect import inspect_bundle
from bundler.format.verdict import Outcome
from tests.bundles import Repo, flip_bit, make_bundle
from tests.signers import make_key, sign

MODEL = {
    "config.json": b"{}", "model.safetensors": b"weights", "modeling_x.py": b"import os", "old/pytorch_model.bin": b"p",
    "tools/run.SH": b"#!/bin/sh", "tools/run.ps1": b"ls", "try.ipynb": b"{}", "voices.npz": b"PK", "README.md": b"text",
    "vocab.txt": b"a",
}


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A bundle of a model and a dataset."""
    return make_bundle(tmp_path / "speech", repos=[
        Repo(id="org/a", files=MODEL), Repo(id="org/b", type="dataset", files={"train.parquet": b"rows"}, refs=()),
    ])


def test_says_what_is_inside_and_how_large(speech: Path) -> None:
    """Repositories in their order, with the bytes of their files."""
    summary = inspect_bundle((speech,))

    assert [str(each.snapshot.repo) for each in summary.snapshots] == ["org/a", "datasets/org/b"]
    assert [each.size for each in summary.snapshots] == [sum(map(len, MODEL.values())), 4]
    assert str(summary.snapshots[0].snapshot.identity) == "told by https://hub.example alone"


def test_says_what_can_run(speech: Path) -> None:
    """Programs, and files of kinds that may run code when they are loaded, whatever the case of their ending."""
    model, dataset = inspect_bundle((speech,)).snapshots

    assert set(model.code) == {"modeling_x.py", "tools/run.SH", "tools/run.ps1", "try.ipynb"}
    assert model.pickles == ("old/pytorch_model.bin", "voices.npz")
    assert (dataset.code, dataset.pickles) == ((), ())


def test_needs_no_volume(speech: Path) -> None:
    """Index and sums can be sent ahead; what is missing here is told."""
    (speech / "speech-001.tar").unlink()

    summary = inspect_bundle((speech,))

    assert len(summary.snapshots) == 2
    assert [volume.name for volume in summary.bundle.absent_volumes()] == ["speech-001.tar"]


def test_says_whether_somebody_signed_it(speech: Path, tmp_path: Path) -> None:
    """With which key, though nobody said whose signatures count."""
    before = inspect_bundle((speech,)).bundle.verdict
    sign(speech, make_key(tmp_path, "key"))
    after = inspect_bundle((speech,)).bundle.verdict

    assert (before.outcome, after.outcome) == (Outcome.UNSIGNED, Outcome.NOT_CHECKED)
    assert before.key == "" and after.key.startswith("ED25519 key SHA256:")


def test_a_wrong_index_is_not_summed_up(speech: Path, tmp_path: Path) -> None:
    """Damage, and nothing at all."""
    flip_bit(speech / "index.json", at=100)

    with pytest.raises(DamagedBundleError):
        inspect_bundle((speech,))
    with pytest.raises(IncompleteBundleError):
        inspect_bundle((tmp_path,))
