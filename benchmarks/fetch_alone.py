"""Fetch and prove what a lock names, and pack nothing: `python -m benchmarks.fetch_alone LOCK STAGING ENDPOINT`."""

from __future__ import annotations

import sys
from pathlib import Path

from bundler.process import set_up_process


def main() -> None:
    """Do as `bundle build` does, but for what comes after the fetch."""
    set_up_process()
    from bundler.gateway.endpoint import Endpoint
    from bundler.gateway.fetch import FetchOptions, FetchRecord, fetching
    from bundler.gateway.sources import HubSource, wanted_blobs
    from bundler.gateway.staging import Staging
    from bundler.lock import read_lock
    from bundler.manifest import EndpointUrl

    lock, root, url = sys.argv[1:]
    blobs = wanted_blobs(read_lock(Path(lock)))
    sources = (HubSource(Endpoint(url=EndpointUrl(url))),)
    staging = Staging(Path(root))
    with (
        staging.exclusively(lambda text: None),
        fetching(blobs, sources, staging, FetchOptions(), record=FetchRecord()) as proven,
    ):
        print(sum(blob.size for blob in proven), "bytes")


if __name__ == "__main__":
    main()
