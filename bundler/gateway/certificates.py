"""Whose certificates are trusted: the system's, and those of an own authority that an endpoint names."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from bundler.errors import FetchError, ManifestError

_SYSTEM_STORES = (
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Debian, Red Hat, SUSE, Alpine: OpenSSL's own default may be a folder, which no other program takes for a file."""


def tls_context(own: Path | None) -> ssl.SSLContext:
    """Return a context that trusts the system's store (OpenSSL's variables count), and `own` besides."""
    store, paths = _store(), ssl.get_default_verify_paths()
    # Python's own look at the folders knows of one only; OpenSSL takes a list of them.
    folders = os.environ.get(paths.openssl_capath_env) or paths.openssl_capath
    try:
        context = ssl.create_default_context(cafile=store, capath=folders)
    except (OSError, ValueError) as error:
        raise FetchError(f"{store} holds no certificate in PEM", hint="look at what `SSL_CERT_FILE` says") from error
    if own is not None:
        context.load_verify_locations(own)
    return context


@cache
def check_certificates(own: Path) -> None:
    """Raise `ManifestError` unless a file holds certificates in PEM."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(own)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = error.strerror if isinstance(error, FileNotFoundError) else "it holds no certificate in PEM"
        raise ManifestError(f"the `ca` {own} cannot be used: {reason}") from error


def merged_certificates(own: Iterable[Path]) -> bytes:
    """Return the system's store and all of `own` as one PEM file, for a program that takes one file and no more."""
    return b"\n".join(path.read_bytes() for path in dict.fromkeys((_store(), *own)))


def _store() -> Path:
    """Return the file that holds the system's certificates, or Mozilla's where the system has none."""
    named = ssl.get_default_verify_paths().cafile
    stores = [Path(store) for store in (*([named] if named else []), *_SYSTEM_STORES)]
    return next((path for path in stores if path.is_file()), None) or _bundled_store()


def _bundled_store() -> Path:
    import certifi

    return Path(certifi.where())
