"""Prove a bundle without installing it: every problem is named, and what was not checked is not called right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bundler.digest import BlobHasher, Digest, hash_file
from bundler.errors import BundlerError, DamagedBundleError, IncompleteBundleError, UnsignedError
from bundler.format.index import INDEX_NAME, Blob, part_runs
from bundler.format.policy import Policies, refusal_of
from bundler.format.problem import Kind, Problem
from bundler.format.reader import (
    Bundle, FileLookup, StoredPart, VolumeFile, buffer_size, decoded, open_bundle, why_cut, why_other
)
from bundler.format.sums import SIGNATURE_NAME, SUMS_NAME
from bundler.format.verdict import Outcome
from bundler.fsio import explain_os_errors
from bundler.pipeline import BufferPool, ordered_map
from bundler.progress import Advanced, Finished, OnEvent, Phase, Started, ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What was found in a bundle."""

    bundle: Bundle
    problems: tuple[Problem, ...]

    proven: int
    """Blobs whose every byte was read and is right."""

    foreign: tuple[str, ...]
    """Names in the folders that SHA256SUMS does not list. They were not opened."""

    objection: BundlerError | None
    """Why a policy would refuse a bundle with this signature, whatever it holds; None if it would not."""

    refusals: tuple[str, ...]
    """What else the policies ask for and the bundle lacks."""

    def failure(self, *, unsigned_is_fine: bool) -> BundlerError | None:
        """Return the error that this report amounts to, the worst if several; None if all is proven."""
        return self._signature_failure() or self._damage() or self._trust_failure(unsigned_is_fine=unsigned_is_fine)

    def _signature_failure(self) -> BundlerError | None:
        # From the top down: of what somebody signed who may not, the rest does not matter.
        unknown = (Outcome.UNSIGNED, Outcome.NOT_CHECKED)
        return None if self.bundle.verdict.outcome in unknown else self.objection

    def _damage(self) -> BundlerError | None:
        name = self.bundle.index.name
        if any(problem.kind is Kind.DAMAGED for problem in self.problems):
            return DamagedBundleError(f"{name} is damaged", hint="copy the files named above from the gateway again")
        if self.problems:
            return IncompleteBundleError(f"{name} is not complete", hint="add the folders that hold what is missing")
        return None

    def _trust_failure(self, *, unsigned_is_fine: bool) -> BundlerError | None:
        verdict = self.bundle.verdict
        if self.objection:
            return self.objection
        if verdict.outcome is Outcome.UNSIGNED and not unsigned_is_fine:
            return UnsignedError(
                f"{self.bundle.index.name} is whole, but nobody vouches for it",
                hint="if you know by other means that its identity is right, say `--allow-unsigned`",
            )
        if verdict.outcome is Outcome.NOT_CHECKED:
            return verdict.failure()
        return refusal_of(self.refusals) if self.refusals else None


def verify_bundle(
    folders: tuple[Path, ...], policies: Policies = Policies(), *, workers: int, on_event: OnEvent = ignore
) -> VerifyReport:
    """Read every byte of a bundle once and prove files, volumes, parts and blobs.

    Raises what `open_bundle` raises: without a right index there is nothing to hold the rest against. What
    `policies` have against the bundle is reported, and the rest is checked all the same.
    """
    bundle = open_bundle(folders, policies.keyring)
    on_event(Started(Phase.VERIFY, bundle.index.raw_size))
    with explain_os_errors("verifying the bundle"):
        small = _small_files(bundle)
        check = _Check(bundle, on_event)
        check.run(workers)
        report = VerifyReport(
            bundle=bundle,
            problems=(*small, *check.problems, *_further_copies(bundle)),
            proven=check.proven,
            foreign=_foreign(bundle),
            objection=policies.objection(bundle.verdict),
            refusals=policies.refusals(bundle),
        )
    on_event(Finished(Phase.VERIFY))
    return report


def _small_files(bundle: Bundle) -> Iterator[Problem]:
    volumes = {volume.name for volume in bundle.index.volumes}
    for name, digest in bundle.sums:
        if name in volumes or name == INDEX_NAME:
            continue
        paths = bundle.find_all(name)
        if not paths:
            yield Problem(kind=Kind.MISSING, name=name, reason="is in none of the folders")
        for path in paths:
            yield from _file_problems(path, name, digest)


def _further_copies(bundle: Bundle) -> Iterator[Problem]:
    """Check the volumes that stand in several folders: parts are read from the first, and the others go on as well."""
    for volume in bundle.index.volumes:
        for path in bundle.find_all(volume.name)[1:]:
            yield from _file_problems(path, volume.name, volume.sha256)


def _file_problems(path: Path, name: str, digest: Digest) -> Iterator[Problem]:
    try:
        found = hash_file(path)[1].sha256
    except OSError as error:
        yield Problem(kind=Kind.DAMAGED, name=name, reason=f"{path} cannot be read: {error.strerror}")
        return
    if found != digest:
        yield Problem(
            kind=Kind.DAMAGED, name=name, reason=f"{path} has the SHA-256 {found}, was written with {digest}"
        )


def _foreign(bundle: Bundle) -> tuple[str, ...]:
    known = {SUMS_NAME, SIGNATURE_NAME, *(name for name, _ in bundle.sums)}
    return tuple(
        sorted(str(path) for folder in bundle.folders for path in folder.iterdir() if path.name not in known)
    )


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A part after its check: raw bytes, or why there are none."""

    number: int
    raw: memoryview | None
    reason: str = ""
    buffers: tuple[memoryview, ...] = ()


class _Check:
    """One pass over the volumes: each is hashed whole while its parts go by."""

    def __init__(self, bundle: Bundle, on_event: OnEvent) -> None:
        self.problems: list[Problem] = []
        self.proven = 0
        self._bundle = bundle
        self._on_event = on_event
        self._git_oids = bundle.index.git_oids
        self._files: dict[int, VolumeFile] = {}
        self._told: set[int] = set()
        self._pool = BufferPool(buffer_size(bundle.index))

    @cached_property
    def _lookup(self) -> FileLookup:
        return FileLookup(self._bundle.index)

    def run(self, workers: int) -> None:
        """Check volumes, parts and blobs."""
        try:
            self._open_volumes()
            with closing(ordered_map(self._decode, self._stored(), workers=workers)) as outcomes:
                outcome = _Outcome(-1, None)
                for blob in self._bundle.index.blobs:
                    outcome = self._prove(blob, outcomes, outcome)
            self._finish_volumes()
        finally:
            for file in self._files.values():
                file.close()

    def _open_volumes(self) -> None:
        for number, volume in enumerate(self._bundle.index.volumes):
            path = self._bundle.find(volume.name)
            if path is None:
                self.problems.append(Problem(kind=Kind.MISSING, name=volume.name, reason="is in none of the folders"))
                continue
            if reason := why_cut(path, volume):
                self.problems.append(Problem(kind=Kind.DAMAGED, name=volume.name, reason=reason))
            self._files[number] = VolumeFile(path, volume)

    def _stored(self) -> Iterator[StoredPart | _Outcome]:
        for number in part_runs(self._bundle.index.blobs):
            yield self._read(number)

    def _read(self, number: int) -> StoredPart | _Outcome:
        part = self._bundle.index.parts[number]
        file = self._files.get(part.volume)
        if file is None:
            return _Outcome(number, None)
        try:
            return file.read_part(number, part, self._pool.take(), hashing=True)
        except DamagedBundleError as error:
            return _Outcome(number, None, str(error))

    def _decode(self, stored: StoredPart | _Outcome) -> _Outcome:
        if isinstance(stored, _Outcome):
            return stored
        try:
            part = decoded(stored, self._pool)
        except BundlerError as error:
            return _Outcome(stored.number, None, str(error).partition(": ")[2] or str(error))
        return _Outcome(stored.number, part.raw, "", part.buffers)

    def _prove(self, blob: Blob, outcomes: Iterator[_Outcome], outcome: _Outcome) -> _Outcome:
        git_oid = self._git_oids.get(blob.sha256)
        hasher = BlobHasher(blob.size, git=git_oid is not None)
        whole = True
        for extent in blob.extents:
            if extent.part != outcome.number:
                self._pool.give(*outcome.buffers)
                outcome = next(outcomes)
                self._tell(outcome)
            if outcome.raw is None:
                whole = False
            else:
                hasher.update(outcome.raw[extent.offset:extent.offset + extent.length])
            self._on_event(Advanced(Phase.VERIFY, extent.length))
        if whole and (reason := why_other(blob, git_oid, hasher)):
            files = self._lookup.of_blob(blob.sha256)
            self.problems.append(Problem(kind=Kind.DAMAGED, name=INDEX_NAME, reason=reason, files=files))
            whole = False
        self.proven += whole
        return outcome

    def _tell(self, outcome: _Outcome) -> None:
        if outcome.reason and outcome.number not in self._told:
            self._told.add(outcome.number)
            index = self._bundle.index
            self.problems.append(
                Problem(
                    kind=Kind.DAMAGED,
                    name=index.volumes[index.parts[outcome.number].volume].name,
                    part=outcome.number,
                    reason=outcome.reason,
                    files=self._lookup.of_part(outcome.number),
                )
            )

    def _finish_volumes(self) -> None:
        told = {problem.name for problem in self.problems}
        for file in self._files.values():
            if (reason := _why_not_whole(file)) and file.volume.name not in told:
                self.problems.append(Problem(kind=Kind.DAMAGED, name=file.volume.name, reason=reason))


def _why_not_whole(file: VolumeFile) -> str:
    try:
        whole = file.finish_hash()
    except DamagedBundleError as error:
        return str(error)
    return "" if whole else f"the file as a whole does not have the SHA-256 {file.volume.sha256}"
