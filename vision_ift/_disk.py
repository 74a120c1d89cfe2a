"""Writing that survives a crash: temporary name, fsync, rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vision_ift._errors import DiskError, LockedError, OutputError, VisionIFTError

#: What the system says of a disk that is full, read-only or failing.
DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})


#: How often, and how long apart, a lock's owner without a name is looked at again.
_NAMELESS_TRIES = 30
_NAMELESS_SECONDS = 0.01


def write_file(path: Path, data: bytes) -> None:
    """Put a whole file in place, or leave what was there.

    Raises:
        DiskError: The disk is full, read-only or failing.
        OutputError: The place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explained(path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Make a written file durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    sync_file(path)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the system's errors on writing ``path`` into ours, which say what to do."""
    try:
        yield
    except VisionIFTError:
        raise
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise DiskError(
                f"writing {path} failed: {error.strerror}",
                hint="free some space and run the same command again: it goes on where it stopped",
            ) from error
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock file; a dead owner's lock does not hold.

    Args:
        path: The lock file; it stays behind, empty of meaning once nobody holds it.
        wait: Wait for the owner to finish instead of raising.

    Raises:
        LockedError: Somebody else holds it; the message names them.
    """
    with contextlib.ExitStack() as stack:
        with explained(path):  # what the owner then does under the lock is not about this file
            file = stack.enter_context(path.open("a+b", buffering=0))
            if wait:
                fcntl.flock(file, fcntl.LOCK_EX)
            elif owner := owner_or_lock(file, fcntl.LOCK_EX):
                raise LockedError(
                    f"{path.parent} is being written by {owner}", hint="wait for it to finish"
                )
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        try:
            yield
        finally:
            with explained(path):
                file.truncate(0)


def owner_or_lock(file: BinaryIO, kind: int) -> str:
    """Lock a file (``LOCK_EX`` or ``LOCK_SH``) and give the empty text, or say who holds it.

    An owner that has just taken it, or is about to give it up, has no name in it for a moment.
    """
    for _ in range(_NAMELESS_TRIES):
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            if owner := file.read(200).decode("utf-8", "replace").strip():
                return owner
            time.sleep(_NAMELESS_SECONDS)
        else:
            return ""
    return "another process"


def replace_folder(new: Path, path: Path) -> None:
    """Put a finished folder in the place of an older one, or of none.

    Whoever is killed between the two renames leaves the older one aside: :func:`recover_folder`.
    """
    with explained(path):
        if path.exists():
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            path.rename(old)
            new.rename(path)
            sync_folder(path.parent)
            shutil.rmtree(old)
        else:
            new.rename(path)
            sync_folder(path.parent)


def recover_folder(path: Path) -> None:
    """Bring back, or remove, what a kill in :func:`replace_folder` left aside; under its lock."""
    aside = re.compile(rf"\.{re.escape(path.name)}\.\d+\.old")
    with explained(path):
        for old in sorted(path.parent.iterdir()):
            if not aside.fullmatch(old.name):
                continue
            if path.exists():
                shutil.rmtree(old)
            else:
                old.rename(path)
                sync_folder(path.parent)
