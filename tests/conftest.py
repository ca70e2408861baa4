"""Fixtures that many tests share, and an environment without the traces of whoever runs them."""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Iterator

import pytest

from tests.faulty_hub import FaultyHubServer

_HF_HOME = tempfile.TemporaryDirectory(prefix="hf-home-")
atexit.register(_HF_HOME.cleanup)

# huggingface_hub reads these once, when it is imported: no token, cache, endpoint or proxy of the user's.
for _name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
    del os.environ[_name]
os.environ |= {
    "HF_HOME": _HF_HOME.name, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1,127.0.0.2", "no_proxy": "127.0.0.1,127.0.0.2",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let whoever has the time kill more often than CI does."""
    parser.addoption("--kills", type=int, default=200, help="how often the kill test kills an install")


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How often to kill."""
    return int(request.config.getoption("--kills"))


@pytest.fixture
def hub() -> Iterator[FaultyHubServer]:
    """A running hub with nothing in it: `publish` into it, give `endpoint` to clients, `fail` on demand."""
    with FaultyHubServer() as server:
        yield server
