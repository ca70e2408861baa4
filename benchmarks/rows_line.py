"""Contests over a slow line, with a hub in a process of its own."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from benchmarks import peers
from benchmarks.contest import GB, MB, Aim, Competitor, Quantity, Settings, cleared
from benchmarks.hub import serving
from benchmarks.measure import prepare
from benchmarks.nginx import find_nginx
from benchmarks.rows_model import OURS, synthetic_shards
from benchmarks.site import REPO, Site, bundler_command
from benchmarks.weights import write_synthetic
from bundler.lock import lock_path
from bundler.manifest import EndpointUrl

_SHARED_RATE = 60 * MB
_RATE_OF_EACH = 2 << 20
_LATE_MILLISECONDS = 50
_SMALL_FILE = 10_000
_SMALL_FILES_PER_BYTE = 2000 / GB
_ALONE = f"{OURS}'s fetch alone"
_HF = "hf download"


@contextmanager
def fetch(settings: Settings, folder: Path) -> Iterator[Sequence[Competitor]]:
    """Build while fetching, beside the fetch alone: packing should hide behind the line."""
    shards = synthetic_shards(settings)
    raw = sum(path.stat().st_size for path in shards)
    data = f"{raw / GB:,.3g} GB in {len(shards)} files over {_SHARED_RATE / MB:,.0f} MB/s"
    with serving(shards[0].parent, "shared", _SHARED_RATE) as endpoint:
        site = _locked(folder, endpoint)
        aim = Aim(quantity=Quantity.WALL, bound=1.15, beside=_ALONE)
        yield [
            Competitor(
                what=f"{OURS} build", command=site.build(), data=data, raw=raw,
                before=cleared(site.staging.root, site.out), output=site.out, aims=(aim,),
            ),
            Competitor(
                what=_ALONE, command=_fetch_alone(site, endpoint), data=data, raw=raw,
                before=cleared(site.staging.root),
            ),
        ]


def line(settings: Settings, folder: Path) -> AbstractContextManager[Sequence[Competitor]]:
    """Fetch one file from a mirror that limits each connection, as we do and as the hub's own client does."""
    return _limited(settings, folder, "nginx", "nginx gives each connection") if find_nginx() else nullcontext(())


def even(settings: Settings, folder: Path) -> AbstractContextManager[Sequence[Competitor]]:
    """The same where no byte comes before its time: a line that is slow by itself."""
    return _limited(settings, folder, "each", "each connection evenly carries")


@contextmanager
def _limited(settings: Settings, folder: Path, kind: str, words: str) -> Iterator[Sequence[Competitor]]:
    (folder / "model").mkdir(parents=True)
    model = folder / "model" / "model.safetensors"
    write_synthetic(model, settings.size // 10)
    raw = model.stat().st_size
    data = f"{raw / MB:,.3g} MB, {words} {_RATE_OF_EACH >> 20} MiB/s"
    with serving(model.parent, kind, _RATE_OF_EACH) as endpoint:
        site = _locked(folder / "site", endpoint)
        cache = folder / "cache"
        aim = Aim(quantity=Quantity.WALL, bound=1 / 15, beside=_HF)
        yield [
            Competitor(
                what=_ALONE, command=_fetch_alone(site, endpoint), data=data, raw=raw,
                before=cleared(site.staging.root), aims=(aim,),
            ),
            Competitor(
                what=_HF, command=peers.hf_download(REPO, cache), data=data, raw=raw, before=cleared(cache),
                variables={"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "home")},
            ),
        ]


@contextmanager
def latency(settings: Settings, folder: Path) -> Iterator[Sequence[Competitor]]:
    """Fetch very many small files from a hub that is far away."""
    count, aim = max(4, int(settings.size * _SMALL_FILES_PER_BYTE)), Aim(
        quantity=Quantity.FILES_PER_SECOND, bound=2000 / 15, at_least=True
    )
    (folder / "files").mkdir()
    for number in range(count):
        content = hashlib.shake_128(str(number).encode()).digest(_SMALL_FILE)
        (folder / "files" / f"{number:06d}.json").write_bytes(content)
    with serving(folder / "files", "late", _LATE_MILLISECONDS) as endpoint:
        site = _locked(folder / "site", endpoint)
        yield [
            Competitor(
                what=_ALONE, command=_fetch_alone(site, endpoint), files=count, raw=count * _SMALL_FILE,
                data=f"{count:,} files of {_SMALL_FILE // 1000} KB, every answer {_LATE_MILLISECONDS} ms late",
                before=cleared(site.staging.root), aims=(aim,),
            ),
        ]


def _locked(place: Path, endpoint: EndpointUrl) -> Site:
    site = Site(place)
    site.write_manifest(endpoint)
    prepare(bundler_command("lock", site.manifest))
    return site


def _fetch_alone(site: Site, endpoint: EndpointUrl) -> list[str]:
    lock = lock_path(site.manifest)
    return [sys.executable, "-m", "benchmarks.fetch_alone", str(lock), str(site.staging.root), endpoint]
