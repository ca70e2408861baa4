"""Questions to a running aria2c, by JSON-RPC (aria2c manual, RPC INTERFACE)."""

from __future__ import annotations

from typing import Any

from urllib3 import HTTPConnectionPool, Timeout
from urllib3.exceptions import HTTPError

from bundler.errors import Aria2Error
from bundler.gateway.aria2_values import Aria2Gone

ANSWER_SECONDS = 30.0

Call = tuple[str, list[Any]]
"""A method's name after `aria2.`, and what it takes after the secret."""


class Aria2Client:
    """Asks over one connection that stays open. Knows no proxies: every question holds the secret."""

    def __init__(self, *, port: int, secret: str) -> None:
        self.port = port
        self.secret = secret
        self._pool = HTTPConnectionPool("127.0.0.1", port, timeout=Timeout(ANSWER_SECONDS), retries=False)

    def ask(self, calls: list[Call]) -> list[Any]:
        """Make all calls at once; an answer is a list of one value, or a fault's `code` and `message`.

        Raises `Aria2Gone` if there is no answer, or not aria2's.
        """
        wanted = [{"methodName": f"aria2.{name}", "params": [f"token:{self.secret}", *given]} for name, given in calls]
        question = {"jsonrpc": "2.0", "id": "", "method": "system.multicall", "params": [wanted]}
        try:
            told = self._pool.request("POST", "/jsonrpc", json=question).json()
        except (HTTPError, ValueError) as error:
            raise Aria2Gone(f"aria2c does not answer ({type(error).__name__})") from error
        match told:
            case {"result": list(answers)}:
                return answers
            case {"error": {"message": message}}:
                raise Aria2Error(f"aria2c refuses a request: {message}")
        raise Aria2Gone("what answers in aria2c's place is not aria2c")

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()
