"""The demo's language model: the files in the package, and the program that lets it speak."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bundler.demo
from bundler.demo.llama import parse_tensors, read_model, read_tokenizer

MODEL = Path(bundler.demo.__file__).parent / "model"
REPO_ID = "demo/alice"
COMMIT = "a" * 40
PROMPTS = [
    "Alice was beginning to get very tired",
    'The Queen said: "Off with their heads!"\n',
    "Don't  you -- (know) it's 42 o'clock?",
    " naïve café 🐇",
]
COMMON_WORDS = frozenset(
    """a about after again all alice am an and any are as at be but by came can could did do down for
    from get go had have he head her herself him his how i if in into is it its just know like little
    looked me mock more much must my never no not of off on one or out over queen rabbit said say see
    she so some that the their them then there they thing things this thought time to turtle up very was
    way we well went were what when which white who will with would you your""".split()
)


def speak(cache: Path, *arguments: str) -> str:
    """Run the program as the demo does, and return what it printed."""
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "bundler.demo.speak", REPO_ID, *arguments]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A Hugging Face cache that holds the model."""
    repo = tmp_path / f"models--{REPO_ID.replace('/', '--')}"
    shutil.copytree(MODEL, repo / "snapshots" / COMMIT)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    return tmp_path


def test_the_model_is_small() -> None:
    """All its files together stay under a million bytes: the package carries them."""
    total = sum(path.stat().st_size for path in MODEL.iterdir())

    assert total < 1_000_000


def test_the_weights_have_the_shapes_of_the_configuration() -> None:
    """Every tensor that the configuration asks for is there, in BF16, and none beside."""
    config = json.loads((MODEL / "config.json").read_text())
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    shared = config["num_key_value_heads"] * config["head_dim"]
    layer = {
        "input_layernorm": [hidden],
        "post_attention_layernorm": [hidden],
        "self_attn.q_proj": [hidden, hidden],
        "self_attn.k_proj": [shared, hidden],
        "self_attn.v_proj": [shared, hidden],
        "self_attn.o_proj": [hidden, hidden],
        "mlp.gate_proj": [inner, hidden],
        "mlp.up_proj": [inner, hidden],
        "mlp.down_proj": [hidden, inner],
    }
    expected = {"model.embed_tokens.weight": [config["vocab_size"], hidden], "model.norm.weight": [hidden]}
    for number in range(config["num_hidden_layers"]):
        expected |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}

    content = (MODEL / "model.safetensors").read_bytes()
    header = json.loads(content[8:8 + int.from_bytes(content[:8], "little")])
    header.pop("__metadata__", None)

    assert {name: entry["shape"] for name, entry in header.items()} == expected
    assert {entry["dtype"] for entry in header.values()} == {"BF16"}


def test_the_tokenizer_has_an_embedding_for_every_token() -> None:
    """The vocabulary numbers the rows of the embedding without a gap."""
    config = json.loads((MODEL / "config.json").read_text())

    tokens = read_tokenizer(MODEL).tokens

    assert sorted(tokens) == list(range(config["vocab_size"]))


def test_widens_bf16_without_loss() -> None:
    """A BF16 number is the upper half of the float32 it becomes."""
    header = json.dumps({"x": {"dtype": "BF16", "shape": [1, 3], "data_offsets": [0, 6]}}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes.fromhex("803f 20c0 0000")

    tensors = parse_tensors(content)

    assert tensors["x"].tolist() == [[1.0, -2.5, 0.0]]


def test_refuses_weights_of_another_type() -> None:
    """Bytes that are not BF16 are not read as if they were."""
    header = json.dumps({"x": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}).encode()

    with pytest.raises(ValueError, match="`F16`"):
        parse_tensors(len(header).to_bytes(8, "little") + header + bytes(2))


@pytest.mark.parametrize("text", PROMPTS[:3])
def test_decodes_what_it_encodes(text: str) -> None:
    """Text of ordinary signs survives the tokenizer."""
    tokenizer = read_tokenizer(MODEL)

    ids = tokenizer.encode(text)

    assert tokenizer.decode(ids) == text
    assert len(ids) < len(text)


def test_the_scores_are_finite_and_do_not_look_ahead() -> None:
    """A token's scores depend on it and those before it alone."""
    model = read_model(MODEL)
    ids = read_tokenizer(MODEL).encode(PROMPTS[0])

    scores = model.logits(ids)

    assert np.isfinite(scores).all()
    np.testing.assert_allclose(model.logits(ids[:4]), scores[:4], rtol=1e-3, atol=1e-4)


def test_tells_the_same_english_story_twice(cache: Path) -> None:
    """From the cache, offline: the prompt, the words asked for, mostly common English ones."""
    told = speak(cache, "--prompt", PROMPTS[0], "--words", "60")
    words = re.findall(r"[a-z]+", told.lower())

    assert told == speak(cache, "--prompt", PROMPTS[0], "--words", "60")
    assert told.startswith(PROMPTS[0])
    assert len(told.split()) >= 60 + len(PROMPTS[0].split())
    assert sum(word in COMMON_WORDS for word in words) > len(words) / 2


def test_speaks_without_a_prompt(cache: Path) -> None:
    """An empty prompt starts a new paragraph."""
    told = speak(cache, "--prompt", "", "--words", "5")

    assert len(told.split()) >= 5


@pytest.mark.inference
@pytest.mark.parametrize("text", PROMPTS)
def test_transformers_has_the_same_ids_and_scores(text: str) -> None:
    """The numpy model is the model that everybody else loads."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(MODEL)(text)["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    with torch.no_grad():
        scores = model(torch.tensor([ids])).logits[0].numpy()

    assert read_tokenizer(MODEL).encode(text) == ids
    np.testing.assert_allclose(read_model(MODEL).logits(ids), scores, rtol=1e-3, atol=1e-3)


@pytest.mark.inference
def test_transformers_continues_alike() -> None:
    """Always taking the likeliest token, both say the same twenty."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = read_tokenizer(MODEL)
    ids = tokenizer.encode(PROMPTS[0])
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    theirs = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=20)[0].tolist()

    ours = read_model(MODEL).continuation(ids)

    assert [*ids, *(next(ours) for _ in range(20))] == theirs


@pytest.mark.inference
def test_transformers_loads_every_weight() -> None:
    """No weight is missing, none is left over, and the tokenizer gives the text back."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _, report = AutoModelForCausalLM.from_pretrained(MODEL, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)

    assert not any(report.values())
    assert tokenizer.decode(tokenizer(PROMPTS[2])["input_ids"]) == PROMPTS[2]
