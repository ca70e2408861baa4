"""Manifest to bundle: lock, fetch, pack, and seal. Packing starts with the first proven file."""

from __future__ import annotations

import getpass
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import bundler
from bundler.digest import Commit, Digest, Etag
from bundler.errors import BundleExistsError, BundlerError, DamagedStagingError, StaleLockError
from bundler.format.codec import LIBZSTD_VERSION
from bundler.format.index import Index, Snapshot
from bundler.format.reader import open_own, why_cut
from bundler.format.sign import sign_bundle
from bundler.format.signature import require_key
from bundler.format.sums import SIGNATURE_NAME, SUMS_NAME
from bundler.format.volume import DEFAULT_VOLUME_SIZE
from bundler.format.writer import Packed, pack_blobs, seal_bundle
from bundler.fsio import explain_os_errors, make_folders, sync_folder
from bundler.gateway.carriers import network_sources
from bundler.gateway.endpoint import Endpoint, Endpoints
from bundler.gateway.fetch import FetchOptions, FetchRecord, fetching
from bundler.gateway.gate import check_access
from bundler.gateway.identity import Trust
from bundler.gateway.local import Store, is_to_be_fetched
from bundler.gateway.resolve import resolve_manifest
from bundler.gateway.sources import Source, Wanted, wanted_blobs, wanted_of
from bundler.gateway.space import space_needs
from bundler.gateway.staging import Staging
from bundler.gateway.web import Web
from bundler.lock import Lock, LockedFile, LockedRepo, lock_path, lock_text, read_lock, write_lock
from bundler.manifest import Manifest, read_manifest
from bundler.names import RepoId
from bundler.progress import Finished, Noted, OnEvent, Phase, Started, ignore

_QUESTIONS_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """How to build; nothing here but `volume_size` changes a byte of what is signed."""

    endpoints: Endpoints
    staging: Staging
    fetch: FetchOptions
    workers: int
    volume_size: int = DEFAULT_VOLUME_SIZE

    stores: tuple[Store, ...] = ()
    """Where files may be already, on this machine."""

    locked: bool = False
    """Refuse to go on without a lock that fits, rather than make one."""

    replace: bool = False
    """Write over another complete bundle."""

    key: Path | None = None
    """What to sign the bundle with; None to leave it unsigned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What was built."""

    folder: Path
    identity: Digest
    index: Index

    by_source: tuple[tuple[str, int], ...]
    """Bytes that came from each source; what was staged already is under ''."""

    fresh: bool = True
    """False if the same bundle stood there already, complete, and nothing had to be done."""

    signed_with: str = ""
    """Kind and fingerprint of the key, if it was signed now."""


def lock_manifest(
    manifest_path: Path, tellers: tuple[Endpoint, ...], *, trust: Trust = Trust(), on_event: OnEvent = ignore
) -> tuple[Path, Lock]:
    """Pin every repository of a manifest to what it is now, and write the lock beside the manifest.

    Raises `AccessDeniedError` for a gated repository whose files could not be fetched.
    """
    lock = resolve_manifest(read_manifest(manifest_path), tellers, trust=trust, on_event=on_event)
    with Web(connections=1) as web:
        check_access(lock.repos, tellers, web)
    path = lock_path(manifest_path)
    with explain_os_errors("writing the lock"):
        write_lock(lock, path)
    return path, lock


def build_bundle(
    manifest_path: Path, output: Path, options: BuildOptions, *, now: datetime, on_event: OnEvent = ignore
) -> BuildReport:
    """Build the bundle of a manifest in `output`/NAME; killed at any time and run again, it goes on.

    The lock beside the manifest is used; where there is none, or it does not fit, one is made (`locked` forbids it).
    Raises `BundleExistsError` for another complete bundle there, `NotEnoughSpaceError` before the first byte.
    """
    if options.key:
        require_key(options.key)
    manifest = read_manifest(manifest_path)
    with explain_os_errors("locking"):
        lock = _fitting_lock(manifest, manifest_path, options, on_event)
    folder, blobs = output / lock.name, wanted_blobs(lock)
    with (
        explain_os_errors("building the bundle"), options.staging.exclusively(lambda text: on_event(Noted(text))),
        Web(connections=_QUESTIONS_AT_ONCE) as web,
    ):
        if report := _standing(folder, lock, options):
            return _signed(report, options, on_event)
        check_access(_to_be_fetched(lock, options), options.endpoints.tellers, web)
        make_folders(folder)
        _check_space(folder, blobs, options.staging)
        _make_room(folder)
        sources = network_sources(manifest, lock, options.endpoints, web)
        build = partial(_fetch_and_pack, lock, blobs, sources, folder, now=now, on_event=on_event)
        try:
            report = build(options)
        except DamagedStagingError as error:
            on_event(Noted(f"{error}: packing anew, and fetching again what is damaged"))
            _make_room(folder)
            report = build(replace(options, fetch=replace(options.fetch, sure=True)))
        return _signed(report, options, on_event)


def _fitting_lock(manifest: Manifest, manifest_path: Path, options: BuildOptions, on_event: OnEvent) -> Lock:
    path = lock_path(manifest_path)
    old = read_lock(path) if path.exists() else None
    reason = old.why_stale(manifest) if old else "it is not there"
    if old and not reason:
        return old
    if options.locked:
        raise StaleLockError(f"{path} does not fit its manifest: {reason}", hint=f"run `bundle lock {manifest_path}`")
    if old:
        on_event(Noted(f"{path} does not fit its manifest ({reason}): locking what is new"))
    lock = resolve_manifest(manifest, options.endpoints.tellers, keep=old, on_event=on_event)
    for text in lock.moved_since(old) if old else ():
        on_event(Noted(text))
    write_lock(lock, path)
    return lock


def _to_be_fetched(lock: Lock, options: BuildOptions) -> tuple[LockedRepo, ...]:
    """Return the repositories of which this machine does not hold all, going by names and sizes."""
    return tuple(repo for repo in lock.repos if any(
        is_to_be_fetched(wanted, options.staging, options.stores) for wanted in wanted_of(repo)
    ))


def _standing(folder: Path, lock: Lock, options: BuildOptions) -> BuildReport | None:
    """Report the bundle that stands in `folder` if it is the one to build; refuse to touch another one."""
    if not (folder / SUMS_NAME).exists():
        return None
    try:
        bundle = open_own((folder,))
    except BundlerError:
        bundle = None
    if bundle and _answers(bundle.index, lock, options):
        whole = all(bundle.find(name) for name, _ in bundle.sums)
        whole = whole and all(why_cut(bundle.find(volume.name), volume) == "" for volume in bundle.index.volumes)
        report = BuildReport(folder=folder, identity=bundle.identity, index=bundle.index, by_source=(), fresh=False)
        return report if whole else None
    if not options.replace:
        raise BundleExistsError(
            f"{folder} holds another bundle, and it stays", hint="write elsewhere with `-o`, or say `--replace`"
        )
    return None


def _answers(index: Index, lock: Lock, options: BuildOptions) -> bool:
    """Say whether building `lock` would give this very bundle."""
    whole = all(volume.size <= options.volume_size for volume in index.volumes)
    same_tools = index.written_with == _written_with()
    unpinned = [replace(snapshot, files=_without_pins(snapshot.files)) for snapshot in index.snapshots]
    wanted = [replace(snapshot, files=_without_pins(snapshot.files)) for snapshot in _snapshots(lock, {})]
    return whole and same_tools and unpinned == wanted


def _without_pins(files: tuple[LockedFile, ...]) -> tuple[LockedFile, ...]:
    return tuple(replace(file, sha256=file.sha256 if isinstance(file.etag, Digest) else None) for file in files)


def _make_room(folder: Path) -> None:
    """Remove what an interrupted build left, or the bundle to be replaced: its commit point first."""
    for name in (SUMS_NAME, SIGNATURE_NAME):
        (folder / name).unlink(missing_ok=True)
    sync_folder(folder)
    for volume in _volumes(folder):
        volume.unlink()


def _volumes(folder: Path) -> list[Path]:
    return list(folder.glob(f"{folder.name}-*.tar"))


def _check_space(folder: Path, blobs: tuple[Wanted, ...], staging: Staging) -> None:
    """Raise `NotEnoughSpaceError` where there is too little; the volumes in `folder` will make room."""
    old = sum(path.stat().st_blocks * 512 for path in _volumes(folder))
    for need in space_needs(folder, [wanted.file for wanted in blobs], staging, reusable=old):
        need.check()


def _fetch_and_pack(
    lock: Lock, blobs: tuple[Wanted, ...], sources: tuple[Source, ...], folder: Path, options: BuildOptions, *,
    now: datetime, on_event: OnEvent,
) -> BuildReport:
    record = FetchRecord()
    with fetching(
        blobs, sources, options.staging, options.fetch, record=record, stores=options.stores, on_event=on_event
    ) as proven:
        on_event(Started(Phase.PACK, sum(wanted.file.size for wanted in blobs)))
        packed = pack_blobs(
            proven,
            folder,
            name=lock.name,
            workers=options.workers,
            volume_size=options.volume_size,
            on_event=on_event,
        )
        on_event(Finished(Phase.PACK))
    index = _index(lock, packed, record)
    by_source = tuple(sorted(record.by_source.items()))
    identity = seal_bundle(folder, index, build_info=_build_info(lock, by_source, now))
    return BuildReport(folder=folder, identity=identity, index=index, by_source=by_source)


def _signed(report: BuildReport, options: BuildOptions, on_event: OnEvent) -> BuildReport:
    if options.key is None:
        return report
    on_event(Noted(f"{report.folder} is complete, signing it"))
    return replace(report, signed_with=sign_bundle((report.folder,), options.key).key)


def _index(lock: Lock, packed: Packed, record: FetchRecord) -> Index:
    return Index(
        name=lock.name,
        written_with=_written_with(),
        snapshots=_snapshots(lock, record.digests),
        blobs=packed.blobs,
        parts=packed.parts,
        volumes=packed.volumes,
    )


def _written_with() -> tuple[tuple[str, str], ...]:
    return (("bundler", bundler.__version__), ("libzstd", LIBZSTD_VERSION))


def _snapshots(lock: Lock, digests: Mapping[Etag, Digest]) -> tuple[Snapshot, ...]:
    """Return the snapshots of a lock; requests that led to the same commit become one."""
    by_commit: dict[tuple[RepoId, Commit], list[LockedRepo]] = {}
    for repo in lock.repos:
        by_commit.setdefault((repo.request.repo, repo.commit), []).append(repo)
    return tuple(
        Snapshot(
            repo=repo_id,
            commit=commit,
            refs=tuple(ref for repo in repos for ref in repo.refs),
            identity=repos[0].identity,
            files=_united_files(repos, digests),
        )
        for (repo_id, commit), repos in by_commit.items()
    )


def _united_files(repos: list[LockedRepo], digests: Mapping[Etag, Digest]) -> tuple[LockedFile, ...]:
    files = {file.path: file for repo in repos for file in repo.files}
    return tuple(
        replace(files[path], sha256=files[path].sha256 or digests.get(files[path].etag)) for path in sorted(files)
    )


def _build_info(lock: Lock, by_source: tuple[tuple[str, int], ...], now: datetime) -> dict[str, object]:
    """Say who built a bundle, when, with what, from where. For people: no digest of it is the bundle's identity."""
    return {
        "built_at": now.isoformat(timespec="seconds"),
        "built_by": f"{_user()}@{platform.node()}",
        "built_with": {"bundler": bundler.__version__, "python": platform.python_version(), "on": platform.platform()},
        "lock_sha256": Digest.of(lock_text(lock)),
        "bytes_from": {source or "staging": size for source, size in by_source},
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container the user may have a number and no name
        return "?"
