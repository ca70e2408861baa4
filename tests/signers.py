"""Keys and signers as people make them: by ssh-keygen, in files.

    key = make_key(tmp_path, "alice")
    sign(bundle, key)
    signers = allow(tmp_path, f"alice@example.com {public(key)}")
"""

from __future__ import annotations

import subprocess
from pathlib import Path

ALICE = "alice@example.com"


def ssh_keygen(*arguments: object, folder: Path | None = None) -> None:
    """Run it, quietly; it must succeed."""
    subprocess.run(["ssh-keygen", "-q", *map(str, arguments)], cwd=folder, check=True, stdin=subprocess.DEVNULL)


def make_key(folder: Path, name: str, *, kind: str = "ed25519") -> Path:
    """Make a key without a passphrase, and return the private half's file; `.pub` is the other."""
    path = folder / name
    ssh_keygen("-t", kind, "-N", "", "-C", name, "-f", path)
    return path


def public(key: Path) -> str:
    """Return kind and public half, as allowed signers name them."""
    return " ".join(key.with_name(f"{key.name}.pub").read_text().split()[:2])


def sign(bundle: Path, key: Path, *, namespace: str = "bundler-v1") -> Path:
    """Sign a bundle as anybody can without this program, and return the signature's file."""
    signature = bundle / "SHA256SUMS.sig"
    signature.unlink(missing_ok=True)
    ssh_keygen("-Y", "sign", "-n", namespace, "-f", key, bundle / "SHA256SUMS")
    return signature


def allow(folder: Path, *lines: str) -> Path:
    """Write a file of allowed signers."""
    path = folder / "allowed_signers"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
