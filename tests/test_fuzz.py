"""Bundles that were spoiled at random, by accident or by an enemy: each is named and stopped, or provably harmless."""

from __future__ import annotations

import json
import multiprocessing
import resource
import struct
import tempfile
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from bundler.format.codec import encode
from bundler.format.hint import Hint
from bundler.format.index import MAX_PART_SIZE, Codec
from fuzz.mutations import change_bytes, change_document, hostile_documents, json_text
from tests.bundles import noise
from tests.fuzz_trial import Trial
from tests.sealing import HandPart, hand_made, sha256

V1 = Path(__file__).parent / "data" / "v1"

PROCESSES = 2
MEMORY = 2 << 30
"""Bytes of addresses that a process may have; threads and libraries take most of them and use few."""

MASKS = (0x01, 0x20, 0x80)
"""What a byte is XORed with: it becomes a neighbour, often as valid; a letter of the other case; no ASCII."""

SEALED = ("index.json", "SHA256SUMS")

TEXT = b"some text that compresses, " * 40
WEIGHTS = struct.pack("<400f", *map(Random(1).gauss, [0] * 400, [0.02] * 400))

Files = Mapping[str, bytes]
"""Names of a bundle's files with their bytes."""

Spoiler = Callable[[Files, int], Files]
"""Makes, of a good bundle's files and the number of a case, the files that are different in it."""


def coded(raw: bytes, *, width: int = 0, volume: int = 0) -> HandPart:
    """Return a part as the writer would store it."""
    found = encode(memoryview(raw), [Hint(len(raw), width)])
    return HandPart(codec=found.codec, stored=found.stored, raw=raw, volume=volume)


PARTS = (
    HandPart(codec="raw", stored=b"{}", raw=b"{}"), coded(TEXT), coded(WEIGHTS, width=4),
    coded(noise("sample", 700), volume=1), coded(WEIGHTS[:800], width=4, volume=1),
)
"""Every codec, in two volumes of some kilobytes."""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good bundle, small enough to be read ten thousand times."""
    assert {part.codec for part in PARTS} == set(Codec)
    return hand_made(tmp_path_factory.mktemp("fuzz") / "sample", *PARTS)


# --- Damage: bytes are not as they were written


def spoil_volumes(good: Files, number: int) -> Files:
    """Flip, cut, swap or repeat in a volume; now and then let two change places."""
    dice = Random(number)
    names = sorted(name for name in good if name.endswith(".tar"))
    one, other = dice.sample(names, 2)
    if dice.random() < 0.02:
        return {one: good[other], other: good[one]}
    return {one: change_bytes(dice, good[one])}


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_damage_to_volumes_escapes(sample: Path, count: int) -> None:
    """`verify` names every one; `install` stops, and no reader of the cache sees a wrong byte or half a snapshot."""
    assert harms(sample, spoil_volumes, Trial.harm_of_damage, range(count)) == []


@pytest.mark.slow
def test_no_damage_to_large_volumes_escapes() -> None:
    """The same where parts are shared by files, and files have many parts."""
    assert harms(V1, spoil_volumes, Trial.harm_of_damage, range(1000)) == []


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_what_is_whole_is_installed_right(count: int) -> None:
    """With `--keep-going` as well: what a reader sees is what was built, as far as it is there."""
    assert harms(V1, spoil_volumes, partial(Trial.harm_of_damage, keep_going=True), range(count)) == []


def spoil_sealed(good: Files, number: int) -> Files:
    """Change one byte of the index or of SHA256SUMS, in one of three ways."""
    position, mask = number // len(MASKS), MASKS[number % len(MASKS)]
    for name in SEALED:
        if position < len(good[name]):
            return {name: xored(good[name], position, mask)}
        position -= len(good[name])
    raise IndexError(number)


def xored(content: bytes, position: int, mask: int) -> bytes:
    """Return it with one byte changed."""
    return content[:position] + bytes([content[position] ^ mask]) + content[position + 1:]


def bytes_of(bundle: Path, *names: str) -> int:
    """Return the size of files together."""
    return sum((bundle / name).stat().st_size for name in names)


@pytest.mark.parametrize("step", [59, pytest.param(1, marks=pytest.mark.slow)])
def test_no_wrong_byte_in_index_or_sums_escapes(step: int) -> None:
    """Every byte one by one; at most a file that is not installed has another digest, which `verify` names."""
    cases = range(0, bytes_of(V1, *SEALED) * len(MASKS), step)

    assert harms(V1, spoil_sealed, Trial.harm_of_damage, cases) == []


# --- Lies: the enemy has sealed what he wrote, and nobody asked for a signature


def seal(good: Files, changed: Files) -> Files:
    """Add the SHA256SUMS that goes with changed files."""
    contents = {name: content for name, content in {**good, **changed}.items() if name != "SHA256SUMS"}
    sums = "".join(f"{sha256(contents[name])}  {name}\n" for name in sorted(contents))
    return {**changed, "SHA256SUMS": sums.encode()}


def lie_in_a_byte(good: Files, number: int) -> Files:
    """Change one byte of the index, sealed."""
    position, mask = number // len(MASKS), MASKS[number % len(MASKS)]
    return seal(good, {"index.json": xored(good["index.json"], position, mask)})


@pytest.mark.parametrize("step", [41, pytest.param(1, marks=pytest.mark.slow)])
def test_an_index_with_a_wrong_byte_that_is_sealed_harms_nobody(sample: Path, step: int) -> None:
    """It is refused, or says where other bytes belong, all of which are proven before they get a name."""
    cases = range(0, bytes_of(sample, "index.json") * len(MASKS), step)

    assert harms(sample, lie_in_a_byte, Trial.harm_of_lie, cases) == []


def lie_in_the_index(good: Files, number: int) -> Files:
    """Change values, names and lists of the index to what an enemy would try; sealed and in canonical spelling."""
    document = json.loads(good["index.json"])
    change_document(Random(number), document)
    return seal(good, {"index.json": json_text(document)})


@pytest.mark.parametrize("count", [300, pytest.param(6000, marks=pytest.mark.slow)])
def test_an_index_that_lies_harms_nobody(sample: Path, count: int) -> None:
    """Paths, sizes, digests, refs and layouts of an enemy's choice: nothing leaves the cache, no byte is unproven."""
    assert harms(sample, lie_in_the_index, Trial.harm_of_lie, range(count)) == []


def lie_in_a_value(good: Files, number: int) -> Files:
    """Put something else in the place of one value of the index, sealed."""
    document = next(islice(hostile_documents(json.loads(good["index.json"])), number, None))
    return seal(good, {"index.json": json_text(document)})


@pytest.mark.parametrize("step", [37, pytest.param(1, marks=pytest.mark.slow)])
def test_no_value_of_an_index_leads_astray(sample: Path, step: int) -> None:
    """Each is replaced by everything that an enemy would try in its place, above all paths that lead out."""
    document = json.loads((sample / "index.json").read_bytes())
    cases = range(0, sum(1 for _ in hostile_documents(document)), step)

    assert harms(sample, lie_in_a_value, Trial.harm_of_lie, cases) == []


def lie_in_frames(good: Files, number: int) -> Files:
    """Let parts be hostile frames, whose digests are right."""
    dice = Random(number)
    parts = [hostile(dice, part) for part in dice.sample(PARTS, dice.randint(1, len(PARTS)))]
    with tempfile.TemporaryDirectory() as place:
        bundle = hand_made(Path(place) / "sample", *sorted(parts, key=lambda part: part.volume))
        return {path.name: path.read_bytes() for path in bundle.iterdir()}


def hostile(dice: Random, part: HandPart) -> HandPart:
    """Return a part of which the stored bytes, the codec, or the size that is said are others."""
    stored = change_bytes(dice, part.stored) if dice.random() < 0.8 else part.stored
    said = dice.choice((None, len(part.raw), len(stored), dice.randint(1, 4096), MAX_PART_SIZE))
    codec = part.codec if dice.random() < 0.7 else dice.choice(list(Codec))
    return HandPart(codec=codec, stored=stored, raw=part.raw, raw_size=said, volume=part.volume)


@pytest.mark.parametrize("count", [150, pytest.param(2000, marks=pytest.mark.slow)])
def test_frames_that_lie_harm_nobody(sample: Path, count: int) -> None:
    """Decoded to what the index says and proven, or refused; in bounded memory and time."""
    assert harms(sample, lie_in_frames, Trial.harm_of_lie, range(count)) == []


# --- The hunt


def harms(sample: Path, spoil: Spoiler, harm_of: Callable[[Trial], str], cases: Iterable[int]) -> list[str]:
    """Return the harm that some of the cases do, each with its number, by which it can be met again."""
    numbers = list(cases)
    shares = [numbers[start::PROCESSES] for start in range(PROCESSES)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=context, initializer=limit_memory) as pool:
        found = pool.map(partial(harms_of_share, sample, spoil, harm_of), shares)
        return [harm for share in found for harm in share]


def limit_memory() -> None:
    """Let the process fail where it wants more memory than a bundle can cost."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def harms_of_share(sample: Path, spoil: Spoiler, harm_of: Callable[[Trial], str], numbers: list[int]) -> list[str]:
    """Try cases one after another; anything but one of our own errors is harm."""
    found = []
    with Trial(sample) as trial:
        for number in numbers:
            with trial.having(spoil(trial.good, number)):
                try:
                    harm = harm_of(trial)
                except Exception:
                    harm = traceback.format_exc()
            if harm:
                found.append(f"{spoil.__name__}, case {number}: {harm}")
    return found
