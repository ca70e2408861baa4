"""Contests over the weights of one model: size, build, verify, install, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import peers
from benchmarks.contest import GB, Aim, Competitor, Contest, Quantity, Settings, cleared
from benchmarks.measure import prepare
from benchmarks.site import Site, stage
from benchmarks.weights import REAL_FORMATS, find_real_weights, read_safetensors, write_synthetic

OURS = "bundler"
MEMORY = Aim(quantity=Quantity.PEAK, bound=500)
BUILD_AIMS = (
    Aim(quantity=Quantity.CPU_PER_GB, bound=3.1), Aim(quantity=Quantity.WALL_PER_CPU, bound=0.7), MEMORY
)
_INSTALL_CPU = Aim(quantity=Quantity.CPU_PER_GB, bound=2.4)
_FASTER_THAN_TAR = Aim(quantity=Quantity.WALL, bound=1, beside=peers.TAR_FROM)
_SIZES = {"f32": 82.3, "bf16": 66.8, "f16": 85.1}
_SHARDS = 8


def real(number_format: str) -> Contest:
    """Return the contest over real weights in a number format of `REAL_FORMATS`."""

    @contextmanager
    def contest(settings: Settings, folder: Path) -> Iterator[Sequence[Competitor]]:
        source = find_real_weights()
        if source is None:
            yield ()
            return
        name, write = REAL_FORMATS[number_format]
        (folder / "model").mkdir(parents=True)
        write(read_safetensors(source), folder / "model" / name)
        aims = [Aim(quantity=Quantity.SIZE, bound=_SIZES[each]) for each in _SIZES if each == number_format]
        data = f"all-MiniLM-L6-v2 {number_format.upper()}"
        yield tuple(_packers(folder, folder / "model" / name, data, tuple(aims), number_format))

    return contest


@contextmanager
def build(settings: Settings, folder: Path) -> Iterator[Sequence[Competitor]]:
    """Pack a synthetic model that is staged; prove, code, hash, write, sync."""
    model = synthetic(settings)
    yield (*_packers(folder, model, _words(settings), BUILD_AIMS, "bf16"), *_floors(folder, model, _words(settings)))


def _packers(
    folder: Path, model: Path, data: str, aims: tuple[Aim, ...], number_format: str
) -> Iterator[Competitor]:
    """Yield all that can pack a model of one file, ours first."""
    raw = model.stat().st_size
    site = stage(folder / "site", {model.name: model})

    def packer(what: str, command: list[str], output: Path, aims: tuple[Aim, ...] = ()) -> Competitor:
        return Competitor(
            what=what, command=command, data=data, raw=raw, before=cleared(output), output=output, aims=aims
        )

    yield packer(f"{OURS} build", site.build(), site.out, aims)
    if peers.has_tar():
        archive = folder / "model.tar.zst"
        yield packer(peers.TAR_TO, peers.tar_to(model.parent, archive), archive)
    if peers.has("zipnn") and number_format in peers.ZIPNN_DTYPES:
        coded = folder / "model.znn"
        yield packer("zipnn", peers.zipnn_to(model, coded, peers.ZIPNN_DTYPES[number_format]), coded)
    if peers.has("modelferry"):
        target = folder / "modelferry"
        yield packer("modelferry pack", peers.modelferry_to(model.parent, target), target)


def _floors(folder: Path, model: Path, data: str) -> Iterator[Competitor]:
    raw = model.stat().st_size
    yield Competitor(what="floor: SHA-256 once", command=peers.sha256(model), data=data, raw=raw)
    if peers.has_tar():
        target = folder / "copy"
        yield Competitor(
            what="floor: cp, sync", command=peers.copy(model.parent, target), data=data, raw=raw,
            before=cleared(target), output=target,
        )


@contextmanager
def verify(settings: Settings, folder: Path) -> Iterator[Sequence[Competitor]]:
    """Prove a bundle without unpacking it."""
    model = synthetic(settings)
    raw, data = model.stat().st_size, _words(settings)
    site = _built(folder, model)
    competitors = [Competitor(what=f"{OURS} verify", command=site.verify(), data=data, raw=raw, aims=(MEMORY,))]
    if peers.has("modelferry"):
        target = folder / "modelferry"
        prepare(peers.modelferry_to(model.parent, target))
        command = peers.modelferry_verify(target)
        competitors.append(Competitor(what="modelferry verify", command=command, data=data, raw=raw))
    yield competitors


@contextmanager
def install(settings: Settings, folder: Path) -> Iterator[Sequence[Competitor]]:
    """Unpack a synthetic model where nothing is yet."""
    model = synthetic(settings)
    yield tuple(_unpackers(folder, _built(folder, model), model, _words(settings)))


def _unpackers(folder: Path, site: Site, model: Path, data: str) -> Iterator[Competitor]:
    raw = model.stat().st_size

    def unpacker(what: str, command: list[str], output: Path, aims: tuple[Aim, ...] = ()) -> Competitor:
        return Competitor(what=what, command=command, data=data, raw=raw, before=cleared(output), aims=aims)

    has_tar = peers.has_tar()
    aims = (_INSTALL_CPU, MEMORY, *([_FASTER_THAN_TAR] if has_tar else []))
    yield unpacker(f"{OURS} install", site.install(), site.cache, aims)
    if has_tar:
        prepare(peers.tar_to(model.parent, folder / "model.tar.zst"))
        yield unpacker(peers.TAR_FROM, peers.tar_from(folder / "model.tar.zst", folder / "tar"), folder / "tar")
    if peers.has("zipnn"):
        prepare(peers.zipnn_to(model, folder / "model.znn", "bfloat16"))
        target = folder / "model.safetensors"
        yield unpacker("zipnn", peers.zipnn_from(folder / "model.znn", target, "bfloat16"), target)
    if peers.has("modelferry"):
        packed = folder / "modelferry"
        packed.mkdir()
        prepare(peers.modelferry_to(model.parent, packed))
        target = folder / "modelferry-unpacked"
        yield unpacker("modelferry unpack", peers.modelferry_from(packed, target), target)


@contextmanager
def shards(settings: Settings, folder: Path) -> Iterator[Sequence[Competitor]]:
    """Build and install a model in several files: proving one overlaps with packing the one before."""
    files = synthetic_shards(settings)
    site = stage(folder / "site", {path.name: path for path in files})
    yield _journey(site, f"{_words(settings)}, {_SHARDS} files", sum(path.stat().st_size for path in files), "")


@contextmanager
def memory(settings: Settings, folder: Path) -> Iterator[Sequence[Competitor]]:
    """Run ours with few and with many workers."""
    model = synthetic(settings)
    site = stage(folder, {model.name: model})
    yield _with_few_and_many_workers(site, _words(settings), model.stat().st_size)


@contextmanager
def sparse(settings: Settings, folder: Path) -> Iterator[Sequence[Competitor]]:
    """Run ours over one very large file; what it unpacks to is no longer sparse."""
    model = folder / "model.bin"
    with model.open("wb") as stream:
        stream.truncate(settings.sparse_size)
    site = stage(folder / "site", {model.name: model})
    yield _with_few_and_many_workers(site, f"zeros, {settings.sparse_size / GB:,g} GB", settings.sparse_size)


def _with_few_and_many_workers(site: Site, data: str, raw: int) -> list[Competitor]:
    return [each for workers in (2, 16) for each in _journey(site, data, raw, f", {workers} workers", workers)]


def _journey(site: Site, data: str, raw: int, words: str, workers: int = 0) -> list[Competitor]:
    """Return build, verify and install, each of which leaves what the next one needs."""
    options = ["--workers", workers] if workers else []

    def step(verb: str, command: list[str], before: Callable[[], object] = bool) -> Competitor:
        return Competitor(
            what=f"{OURS} {verb}{words}", command=command, data=data, raw=raw, before=before, aims=(MEMORY,)
        )

    return [
        step("build", site.build(*options), cleared(site.out, site.cache)),
        step("verify", site.verify(*options)),
        step("install", site.install(*options), cleared(site.cache)),
    ]


def synthetic(settings: Settings) -> Path:
    """Return a model in one file, alone in its folder, made when it is first asked for."""
    path = settings.folder / f"synthetic-{settings.size}" / "model.safetensors"
    _make(path, settings.size, seed=0)
    return path


def synthetic_shards(settings: Settings) -> list[Path]:
    """Return a model of the same size in several files."""
    folder = settings.folder / f"synthetic-shards-{settings.size}"
    paths = [folder / f"model-{number:05d}-of-{_SHARDS:05d}.safetensors" for number in range(1, _SHARDS + 1)]
    for number, path in enumerate(paths, start=1):
        _make(path, settings.size // _SHARDS, seed=number)
    return paths


def _make(path: Path, size: int, *, seed: int) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.parent.with_name(f"{path.name}.unfinished")
        write_synthetic(unfinished, size, seed=seed)
        unfinished.rename(path)


def _built(folder: Path, model: Path) -> Site:
    site = stage(folder / "site", {model.name: model})
    prepare(site.build())
    return site


def _words(settings: Settings) -> str:
    return f"synthetic BF16, {settings.size / GB:,g} GB"
