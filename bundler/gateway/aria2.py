"""The aria2c daemon, which fetches a file over many connections.

aria2 is a carrier, trusted for nothing. It never gets a token: it would hand one on to the host that a
redirect names. What it calls complete has the right size and perhaps the wrong bytes, so the caller hashes
before use. It may be killed at any time: `<digest>.part` and its control file `<digest>.part.aria2` stay, and
adding the same `Download` again resumes.
"""

from __future__ import annotations

import base64
import fcntl
import os
import re
import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from bundler.errors import Aria2Error
from bundler.gateway.aria2_client import ANSWER_SECONDS, Aria2Client, Call
from bundler.gateway.aria2_control import is_sound
from bundler.gateway.aria2_values import Aria2Gone, Download, Failure, State, Status, check_name, check_url
from bundler.gateway.aria2c import child_environment

_OPTIONS = (
    *("--enable-rpc=true", "--rpc-listen-all=false", "--rpc-save-upload-metadata=false"),
    *("--rpc-max-request-size=64M", "--max-download-result=100000"),
    # Only the log tells the HTTP status of a failure.
    *("--quiet=true", "--log=-", "--log-level=notice"),
    # Nothing that a server or this machine says makes aria2 fetch, ask or tell anything else.
    *("--no-netrc=true", "--follow-metalink=false", "--follow-torrent=false"),
    *("--enable-dht=false", "--bt-enable-lpd=false", "--all-proxy=", "--http-proxy=", "--https-proxy="),
    # `always-resume=false` and a disk cache would make it abort at a server without ranges.
    *("--continue=true", "--always-resume=true", "--disk-cache=0", "--auto-save-interval=2"),
    *("--auto-file-renaming=false", "--allow-overwrite=false", "--file-allocation=none"),
    *("--min-split-size=1M", "--max-tries=5", "--retry-wait=2", "--connect-timeout=15", "--timeout=30"),
)
_STATUS_KEYS = ["gid", "status", "completedLength", "downloadSpeed", "errorCode", "errorMessage"]
_ALL = (0, 1_000_000)
_START_ATTEMPTS = 5
_START_SECONDS = 15.0
_STOP_SECONDS = 5.0


class Aria2Daemon:
    """An aria2c that lives as long as the `with` block and has `folder` to itself. For one thread.

    Whatever asks the daemon raises `Aria2Gone` once it is gone.
    """

    def __init__(
        self,
        binary: Path,
        folder: Path,
        *,
        max_downloads: int = 4,
        rate_limit: int | None = None,
        ca_certificate: Path | None = None,
    ) -> None:
        """Start nothing yet. `rate_limit` is in bytes per second, of all downloads together.

        `ca_certificate` replaces the system's store: a file with all the certificates that are to be trusted.
        """
        self._folder = folder.absolute()
        self._command = [str(binary), *_OPTIONS, f"--dir={self._folder}"]
        self._command.append(f"--max-concurrent-downloads={max_downloads}")
        self._command.append(f"--max-overall-download-limit={rate_limit or 0}")
        self._command.append(f"--stop-with-process={os.getpid()}")
        if ca_certificate is not None:
            self._command.append(f"--ca-certificate={ca_certificate.absolute()}")
        self._queued: dict[str, Download] = {}
        self._reported: list[str] = []

    def __enter__(self) -> Self:
        for _ in range(_START_ATTEMPTS):
            if self._start():
                return self
        raise Aria2Error(f"aria2c does not start: {self._log.first_line or 'it says nothing'}")

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def alive(self) -> bool:
        """Whether the process runs, which does not mean that it answers."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def port(self) -> int:
        """Of the loopback address, where it is asked."""
        return self._client.port

    def add(self, downloads: Sequence[Download]) -> list[str]:
        """Queue `downloads` and return a gid for each; after an Aria2Error none of them is queued.

        A partial file without its control file is deleted first: aria2 would call it complete, holes and all. So is
        one with a control file that aria2 could not read.
        """
        names = [download.name for download in (*self._queued.values(), *downloads)]
        if len(set(names)) < len(names):
            raise ValueError("a file is queued twice at the same time")
        for download in downloads:
            part, control = self._files(download.name)
            whole = part.exists() and control.exists() and is_sound(control.read_bytes(), download.size)
            if not whole:
                self.discard(download.name)
        answers = self._ask([("addMetalink", _metalink_call(one)) for one in downloads])
        gids: list[str] = [answer[0] for answer in answers if not isinstance(answer, Failure)]
        for answer in answers:
            if isinstance(answer, Failure):
                for gid in gids:
                    self.cancel(gid)
                raise Aria2Error(f"aria2c refuses a download: {answer.text}")
        self._queued.update(zip(gids, downloads))
        return gids

    def poll(self) -> list[Status]:
        """Return where every download stands. One that has ended is told once, then forgotten."""
        calls: list[Call] = [("removeDownloadResult", [gid]) for gid in self._reported]
        calls.append(("tellActive", [_STATUS_KEYS]))
        calls.append(("tellWaiting", [*_ALL, _STATUS_KEYS]))
        calls.append(("tellStopped", [*_ALL, _STATUS_KEYS]))
        answers = self._ask(calls)[-3:]
        self._log.read()
        statuses = [self._status(told) for all in answers for told in all if told["gid"] in self._queued]
        self._reported = [one.gid for one in statuses if one.state in (State.COMPLETE, State.FAILED)]
        for gid in self._reported:
            self._forget(gid)
        return statuses

    def replace_url(self, gid: str, old: str, new: str) -> None:
        """Let new connections use `new`; open ones go on. Does nothing once the download has ended.

        No promise: aria2 may go on with `old`, and fail with it, if the download has only just begun.
        """
        check_url(new)
        if download := self._queued.get(gid):
            self._queued[gid] = replace(download, urls=(*download.urls, new))
            self._ask([("changeUri", [gid, 1, [_encode(old)], [_encode(new)]])])

    def limit_rate(self, bytes_per_second: int) -> None:
        """Let all downloads together use so much from now on; 0 for any amount."""
        self._ask([("changeGlobalOption", [{"max-overall-download-limit": str(bytes_per_second)}])])

    def cancel(self, gid: str) -> None:
        """Give a download up: `poll` will not tell of it, and aria2 has let go of its files on return."""
        self._ask([("forceRemove", [gid])])
        deadline = time.monotonic() + ANSWER_SECONDS
        while not _has_ended(*self._ask([("tellStatus", [gid, ["status"]])])):
            if time.monotonic() > deadline:
                raise Aria2Gone(f"aria2c did not let go of a file in {ANSWER_SECONDS:.0f} seconds")
            time.sleep(0.01)
        self._ask([("removeDownloadResult", [gid])])
        self._forget(gid)

    def discard(self, name: str) -> None:
        """Delete what there is of the file; it must not be queued."""
        check_name(name)
        for path in self._files(name):
            path.unlink(missing_ok=True)

    def _files(self, name: str) -> tuple[Path, Path]:
        """Return the path of the partial file and that of its control file."""
        return self._folder / name, self._folder / f"{name}.aria2"

    def _status(self, told: dict[str, str]) -> Status:
        state = State(told["status"])
        return Status(
            gid=told["gid"],
            state=state,
            completed=int(told["completedLength"]),
            size=self._queued[told["gid"]].size,
            speed=int(told["downloadSpeed"]),
            error=self._failure(told) if state is State.FAILED else None,
        )

    def _failure(self, told: dict[str, str]) -> Failure:
        """Take the cause from the log: over RPC a metalink's is nearly always `No URI available.`."""
        urls = {_encode(url) for url in self._queued[told["gid"]].urls}
        texts = [text for url, text in self._log.causes.items() if url in urls]
        return Failure(code=int(told["errorCode"]), text=(texts or [told["errorMessage"]])[-1])

    def _forget(self, gid: str) -> None:
        if download := self._queued.pop(gid, None):
            for url in download.urls:
                self._log.causes.pop(_encode(url), None)

    def _ask(self, calls: list[Call]) -> list[Any]:
        """Make all calls in one request; one that failed answers with a `Failure`."""
        if not calls:
            return []
        if not self.alive:  # by now its port, and so the secret, could be somebody else's
            raise Aria2Gone("aria2c has ended")
        return [
            # An answer comes wrapped in a list, a fault does not.
            one[0] if isinstance(one, list) else Failure(code=one["code"], text=one["message"])
            for one in self._client.ask(calls)
        ]

    def _start(self) -> bool:
        """Start the process and say whether it listens. By then its private files have lost their names."""
        port, secret = _free_port(), secrets.token_hex(32)
        with (
            _alone_in(self._folder) as held,
            tempfile.TemporaryDirectory(prefix="bundler-", ignore_cleanup_errors=True) as private,
        ):
            conf, log = Path(private, "conf"), Path(private, "log")
            conf.touch(mode=0o600)
            conf.write_text(f"rpc-secret={secret}\n")
            command = [*self._command, f"--conf-path={conf}", f"--rpc-listen-port={port}"]
            self._process = _spawn(command, log, held)
            self._log = _Log(log)
            self._client = Aria2Client(port=port, secret=secret)
            listens = False
            try:
                listens = self._listens()
            finally:
                if not listens:
                    self._stop()
        return listens

    def _listens(self) -> bool:
        """Wait until the log tells that the port is the daemon's own, so that nobody else is sent the secret.

        Where another process holds the port, aria2 either exits or lives on with the IPv6 one alone.
        """
        deadline = time.monotonic() + _START_SECONDS
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.002)
            news = "\n".join(self._log.read())
            if "IPv4 RPC: " in news:
                return "IPv4 RPC: listening" in news
        return False

    def _stop(self) -> None:
        """End the process; after this nothing writes to the folder any more."""
        if self._queued:
            self._process.terminate()
        else:
            # It has nothing to save, and takes a second to end in order.
            self._process.kill()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._client.close()
        self._log.read()
        self._log.stream.close()


class _Log:
    """The daemon's log, read as it grows."""

    def __init__(self, path: Path) -> None:
        self.stream = path.open(encoding="utf-8", errors="replace")
        self.causes: dict[str, str] = {}
        """Why aria2 gave a URL up, the latest one last."""
        self.first_line = ""
        self._unfinished = ""
        self._url: str | None = None

    def read(self) -> list[str]:
        """Return the lines that are new."""
        *lines, self._unfinished = (self._unfinished + self.stream.read()).split("\n")
        for line in filter(None, lines):
            self._learn(line)
            self.first_line = self.first_line or line
        return lines

    def _learn(self, line: str) -> None:
        """Follow a record: its first line has a date and the URL, every further one a deeper cause."""
        if re.match(r"\d{4}-\d\d-\d\d ", line):
            aborted = re.search(r" Download aborted\. URI=(.*)", line)
            self._url = aborted[1] if aborted else None
        elif self._url and (cause := re.search(r" errorCode=\d+ (.*)", line)):
            self.causes.pop(self._url, None)
            self.causes[self._url] = cause[1]


@contextmanager
def _alone_in(folder: Path) -> Iterator[int]:
    """Give a descriptor that locks the folder for as long as anybody has it open: the daemon is to inherit it.

    A daemon outlives a process that was killed by some seconds, and another one must not write to the same files.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _locks(descriptor):
            if time.monotonic() > deadline:
                raise Aria2Error(
                    f"another aria2c is at work in {folder}", hint="end it, then run the same command again"
                )
            time.sleep(0.05)
        yield descriptor
    finally:
        os.close(descriptor)


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems cannot lock a folder
        pass
    return True


def _spawn(command: list[str], log: Path, held: int) -> subprocess.Popen[bytes]:
    """Start the program in a session of its own, so that Ctrl-C in the terminal is ours to act on."""
    with log.open("wb") as out:
        return subprocess.Popen(
            command,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            pass_fds=(held,),
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _encode(url: str) -> str:
    """Write `url` the way aria2 does when it stores one, so that it is found again."""
    return quote(url, safe="!#$%&'()*+,-./:;=?@[\\]^_`{|}~")


def _metalink_call(download: Download) -> list[Any]:
    """Return what addMetalink takes: with the size, so that no other is accepted, and without a hash."""
    # Of what XML would take for its own, `_encode` leaves only this.
    urls = "".join(f"<url>{_encode(url).replace('&', '&amp;')}</url>" for url in download.urls)
    metalink = (
        '<?xml version="1.0" encoding="UTF-8"?><metalink xmlns="urn:ietf:params:xml:ns:metalink">'
        f'<file name="{download.name}"><size>{download.size}</size>{urls}</file></metalink>'
    )
    # aria2 ignores an option that is not a string, without a word.
    options: dict[str, str | list[str]] = {
        "split": str(download.connections),
        "max-connection-per-server": str(download.connections),
        "header": [f"{field}: {value}" for field, value in download.headers],
        "all-proxy": download.proxy or "",
    }
    return [base64.b64encode(metalink.encode()).decode(), options]


def _has_ended(told: Any) -> bool:
    """Read tellStatus's answer; a gid that aria2 does not know has ended."""
    return isinstance(told, Failure) or told["status"] not in ("active", "waiting", "paused")
