"""A language model of the Llama kind in numpy: what a machine without torch needs to run the demo's.

Only as much as that model uses: BF16 weights, tied embeddings, a byte-pair tokenizer whose pieces one
regular expression finds. transformers computes the same (`tests/test_demo_model.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The numbers in `config.json` that the computation needs."""

    layers: int
    heads: int
    shared_heads: int
    """Heads of keys and values; each serves `heads / shared_heads` heads of queries."""

    head_size: int
    epsilon: float
    theta: float
    context: int
    """How many tokens the model can look back on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """The byte-pair encoding of a `tokenizer.json`."""

    pieces: re.Pattern[str]
    ids: Mapping[str, int]
    tokens: Mapping[int, str]
    ranks: Mapping[tuple[str, str], int]
    """The earlier a pair was learned, the earlier it is merged."""

    unknown: str

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`; a sign outside the vocabulary becomes the unknown token."""
        symbols = (symbol for piece in self.pieces.findall(text) for symbol in self._merged(piece))
        return [self.ids.get(symbol, self.ids[self.unknown]) for symbol in symbols]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`."""
        return "".join(self.tokens[number] for number in ids)

    def _merged(self, piece: str) -> list[str]:
        """Return `piece` with neighbours joined, those learned first before others."""
        symbols = list(piece)
        while known := [pair for pair in pairwise(symbols) if pair in self.ranks]:
            first = min(known, key=self.ranks.__getitem__)
            at = list(pairwise(symbols)).index(first)
            symbols[at:at + 2] = ["".join(first)]
        return symbols


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama:
    """A model that can be asked which token comes next."""

    config: Config
    tensors: Mapping[str, Array]

    def logits(self, ids: Sequence[int]) -> Array:
        """Return, for each of `ids`, the score of every token as the next: (ids, vocabulary)."""
        embedding = self.tensors["model.embed_tokens.weight"]
        hidden = embedding[list(ids)]
        for number in range(self.config.layers):
            layer = f"model.layers.{number}"
            normed = self._normed(f"{layer}.input_layernorm", hidden)
            hidden = hidden + self._attention(layer, normed)
            normed = self._normed(f"{layer}.post_attention_layernorm", hidden)
            hidden = hidden + self._feed_forward(layer, normed)
        return self._normed("model.norm", hidden) @ embedding.T

    def continuation(self, ids: Sequence[int]) -> Iterator[int]:
        """Yield the ids that follow, each the likeliest, one by one and without end."""
        seen = list(ids)
        while True:
            scores = self.logits(seen[-self.config.context:])[-1]
            seen.append(int(scores.argmax()))
            yield seen[-1]

    def _attention(self, layer: str, hidden: Array) -> Array:
        """Let every token look at itself and those before it."""
        queries = rotated(self._heads(f"{layer}.self_attn.q_proj", hidden), self.config.theta)
        keys = rotated(self._heads(f"{layer}.self_attn.k_proj", hidden), self.config.theta)
        values = self._heads(f"{layer}.self_attn.v_proj", hidden)
        group = self.config.heads // self.config.shared_heads
        keys, values = keys.repeat(group, axis=0), values.repeat(group, axis=0)
        scores = queries @ keys.transpose(0, 2, 1) / np.float32(np.sqrt(self.config.head_size))
        later = np.triu(np.ones(scores.shape[1:], dtype=bool), k=1)
        seen = softmax(np.where(later, np.float32(-np.inf), scores)) @ values
        return self._linear(f"{layer}.self_attn.o_proj", seen.transpose(1, 0, 2).reshape(len(hidden), -1))

    def _heads(self, name: str, hidden: Array) -> Array:
        """Return a projection cut into heads: (heads, ids, head size)."""
        return self._linear(name, hidden).reshape(len(hidden), -1, self.config.head_size).transpose(1, 0, 2)

    def _feed_forward(self, layer: str, hidden: Array) -> Array:
        gate = self._linear(f"{layer}.mlp.gate_proj", hidden)
        raised = self._linear(f"{layer}.mlp.up_proj", hidden)
        return self._linear(f"{layer}.mlp.down_proj", gate / (1 + np.exp(-gate)) * raised)

    def _linear(self, name: str, hidden: Array) -> Array:
        return hidden @ self.tensors[f"{name}.weight"].T

    def _normed(self, name: str, hidden: Array) -> Array:
        """Scale every token's vector to length one (root mean square), then by the learned weight."""
        square = np.mean(hidden * hidden, axis=-1, keepdims=True)
        unit: Array = hidden / np.sqrt(square + np.float32(self.config.epsilon))
        return unit * self.tensors[f"{name}.weight"]


def rotated(heads: Array, theta: float) -> Array:
    """Return `heads` (heads, ids, size) with each token's position turned into it (RoPE)."""
    half = heads.shape[-1] // 2
    speeds = theta ** (-np.arange(half, dtype=np.float32) / half)
    angles = np.outer(np.arange(heads.shape[1], dtype=np.float32), speeds).astype(np.float32)
    cosine, sine = np.cos(angles), np.sin(angles)
    first, second = heads[..., :half], heads[..., half:]
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def softmax(scores: Array) -> Array:
    """Return `scores` as probabilities along the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def parse_config(text: str) -> Config:
    """Return what a `config.json` says."""
    content = json.loads(text)
    return Config(
        layers=content["num_hidden_layers"],
        heads=content["num_attention_heads"],
        shared_heads=content["num_key_value_heads"],
        head_size=content["head_dim"],
        epsilon=content["rms_norm_eps"],
        theta=content["rope_parameters"]["rope_theta"],
        context=content["max_position_embeddings"],
    )


def parse_tokenizer(text: str) -> Tokenizer:
    """Return the encoding in a `tokenizer.json`."""
    content = json.loads(text)
    ids = content["model"]["vocab"]
    return Tokenizer(
        pieces=re.compile(content["pre_tokenizer"]["pattern"]["Regex"]),
        ids=ids,
        tokens={number: token for token, number in ids.items()},
        ranks={(left, right): rank for rank, (left, right) in enumerate(content["model"]["merges"])},
        unknown=content["model"]["unk_token"],
    )


def parse_tensors(content: bytes) -> dict[str, Array]:
    """Return the tensors of a safetensors file; raises `ValueError` at any type but BF16."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    return {name: widened(content[start:], entry) for name, entry in header.items()}


def widened(content: bytes, entry: Mapping[str, Any]) -> Array:
    """Return a BF16 tensor as float32, of which BF16 is the upper half."""
    if entry["dtype"] != "BF16":
        raise ValueError(f"a tensor of type `{entry['dtype']}`, only `BF16` is known here")
    begin, end = entry["data_offsets"]
    upper = np.frombuffer(content[begin:end], dtype="<u2").astype(np.uint32)
    return (upper << 16).view(np.float32).reshape(entry["shape"])


def read_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer of the snapshot in `folder`."""
    return parse_tokenizer((folder / "tokenizer.json").read_text(encoding="utf-8"))


def read_model(folder: Path) -> Llama:
    """Return the model of the snapshot in `folder`."""
    return Llama(
        config=parse_config((folder / "config.json").read_text(encoding="utf-8")),
        tensors=parse_tensors((folder / "model.safetensors").read_bytes()),
    )
