"""``python -m tests.hub FOLDER``: a Hub until standard input ends, and its log."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys

from tests.hub import serving


def main() -> None:
    """Print the address as one JSON line, wait, and print the requests as another."""
    parser = argparse.ArgumentParser(prog="python -m tests.hub", description=main.__doc__)
    parser.add_argument("folder", help="where blobs are kept")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", default="canary")
    parser.add_argument("--lfs-elsewhere", action="store_true")
    parser.add_argument("--part-bytes", type=int, default=64 * 1024 * 1024)
    given = parser.parse_args()
    with serving(
        given.folder,
        token=given.token,
        lfs_elsewhere=given.lfs_elsewhere,
        part_bytes=given.part_bytes,
        port=given.port,
    ) as hub:
        said = {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HUB_DISABLE_XET": "1"}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.read()
        log = [dataclasses.asdict(one) for one in hub.requests]
        sys.stdout.write(json.dumps(log) + "\n")


if __name__ == "__main__":
    main()
