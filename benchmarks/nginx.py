"""A real nginx, which limits each connection by its own `limit_rate`."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

_CONFIGURATION = """
daemon off; master_process off; pid {place}/pid; error_log stderr;
events {{ }}
http {{
    sendfile on; tcp_nopush on; access_log off;
    {temporary}
    server {{ listen 127.0.0.1:{port}; root {folder}; limit_rate {rate}; }}
}}
"""
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_START_SECONDS = 10.0


def find_nginx() -> str | None:
    """Return the program, None if it is not installed. Debian keeps it where only root looks."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def nginx(folder: Path, rate: int) -> Iterator[str]:
    """Serve the files of a folder, each connection with `rate` bytes per second, and give the URL.

    Set up as Debian does it, with `sendfile`: what a connection may have in a second is then sent at once, and that of
    the first second as soon as it is asked for.
    """
    program = find_nginx()
    assert program is not None  # whoever asks has looked
    with TemporaryDirectory(prefix="nginx-") as place:
        port = _free_port()
        temporary = " ".join(f"{kind}_temp_path {place}/{kind};" for kind in _TEMPORARY)
        written = Path(place, "nginx.conf")
        written.write_text(
            _CONFIGURATION.format(place=place, temporary=temporary, port=port, folder=folder.resolve(), rate=rate)
        )
        with subprocess.Popen([program, "-c", written, "-p", place, "-e", "stderr"]) as process:
            try:
                _wait_for(port, process)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.01)
    raise RuntimeError("nginx does not start")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
