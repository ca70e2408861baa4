"""modelferry's packing without its download: `python -m benchmarks.peer_modelferry FOLDER TO`."""

from __future__ import annotations

import sys
from pathlib import Path

BUNDLE = "model__c0ffee0"
"""The folder that it writes, named after repository and commit."""


def main() -> None:
    """Copy, split and hash the files of a folder, and verify the result, as `modelferry pack` does after it fetched."""
    from modelferry.pack import parse_chunk_size, write_bundle

    folder, target = sys.argv[1:]
    source = {
        "type": "huggingface", "endpoint": "http://127.0.0.1:9", "repo_id": "bench/model", "repo_type": "model",
        "revision_requested": "main", "commit_sha": "c0ffee" + 34 * "0", "license": "UNKNOWN", "gated": False,
    }
    files = [path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()]
    write_bundle(folder, files, target, parse_chunk_size("3900M"), source)


if __name__ == "__main__":
    main()
