"""Fingerprints of many pictures: sha256 of the bytes and a DCT hash, kept beside the table."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
import xxhash
from numpy.typing import NDArray

from vision_ift._archives.archive import SCHEME
from vision_ift._archives.ranges import is_url
from vision_ift._build import Progress
from vision_ift._disk import write_file
from vision_ift._errors import DiskError, OutputError, RecordError
from vision_ift._likeness.hash import HASH_VERSION, PLAIN
from vision_ift._pictures.child import PICTURE_REASONS, Limits
from vision_ift._pictures.decode import decode_all
from vision_ift._pictures.images import Images, safe_path

#: What is known of a picture: hashed, too plain to compare, or why it could not be hashed.
STATES = ("hashed", "plain", "unsafe_path", *PICTURE_REASONS)
HASHED, IS_PLAIN = 0, 1
_CODES = {name: code for code, name in enumerate(STATES)}

#: Pictures of one file of kept fingerprints: what a stop costs at most.
PART_PICTURES = 4096

_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), False),
        pa.field("sha256", pa.binary(32), False),
        pa.field("dct", pa.uint64(), False),
        pa.field("state", pa.uint8(), False),
    ]
)


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Columns over distinct pictures.

    Attributes:
        references: The pictures.
        sha256: Of the bytes, 32 bytes; zeros where they could not be read.
        dct: The hash; means something where ``state`` is ``HASHED``.
        state: Index into ``STATES``.
    """

    references: pa.Array
    sha256: NDArray[np.void]
    dct: NDArray[np.uint64]
    state: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.state)

    @property
    def read(self) -> NDArray[np.bool_]:
        """Which pictures' bytes could be read."""
        return np.asarray(self.sha256 != np.zeros(1, "V32"))

    @property
    def broken(self) -> dict[str, int]:
        """Reason to number of pictures that have no hash; plain ones among them."""
        counts = np.bincount(self.state, minlength=len(STATES))
        return {STATES[n]: int(counts[n]) for n in range(1, len(STATES)) if counts[n]}


class _Line(NamedTuple):
    key: str
    sha256: bytes
    dct: int
    state: int


def fingerprints(
    images: Images,
    references: pa.Array,
    *,
    cache: Path | None = None,
    limits: Limits | None = None,
    strict: bool = False,
    jobs: int = 1,
    progress: Progress,
) -> Fingerprints:
    """Fingerprint distinct pictures, each decoded at most once, in processes of their own.

    Args:
        images: Where the references lead.
        references: Distinct, as text.
        cache: A folder in which fingerprints are kept from run to run. One counts for as long as
            the file's size and time (or its archive's) are the same.
        limits: What decoding one picture may cost.
        strict: Raise for the first picture that has no hash because of a reason in ``STATES``.
        jobs: Decoding processes.

    Raises:
        RecordError: With ``strict``, a picture that cannot be hashed.
    """
    limits = limits or Limits()
    size = len(references)
    found = Fingerprints(
        references, np.zeros(size, "V32"), np.zeros(size, np.uint64), np.zeros(size, np.uint8)
    )
    names: list[str] = references.to_pylist()
    folder = None if cache is None else cache / _parameters(limits)
    stamps = _Stamps(images)
    keys = [f"{stamps.of(name)} {name}" if folder is not None else name for name in names]
    missing = _recall(folder, keys, found)
    if strict and (known := np.flatnonzero(found.state > IS_PLAIN)).size:
        raise _refused(names[known[0]], STATES[found.state[known[0]]], "as an earlier run found")
    kept = _Keeper(folder)
    sums: dict[str, bytes] = {}

    def read(reference: str) -> bytes:
        refuse_unsafe(reference)
        data = images.read(reference)
        sums[reference] = hashlib.sha256(data).digest()
        return data

    pictures = decode_all(
        (names[place] for place in missing),
        read,
        jobs=jobs,
        limits=limits,
        program="vision_ift._likeness.hash:look",
    )
    for done, (place, picture) in enumerate(zip(missing, pictures, strict=True), 1):
        state = _CODES[picture.reason] if picture.reason else HASHED
        if state > IS_PLAIN and strict:
            raise _refused(names[place], picture.reason, picture.detail)
        state = IS_PLAIN if state == HASHED and picture.detail == PLAIN else state
        line = _Line(
            keys[place],
            sums.pop(names[place], bytes(32)),
            int(picture.detail, 16) if state == HASHED else 0,
            state,
        )
        _put(found, place, line)
        if picture.reason not in ("missing_image", "decoder_timeout", "decoder_crash"):
            kept.add(line)  # the others may be this machine's mood
        progress("hash pictures", done, len(missing))
    kept.write()
    return found


def _refused(reference: str, reason: str, detail: str) -> RecordError:
    return RecordError(
        f"picture {reference}: {reason}, {detail}",
        reason=reason,
        hint="without --strict it is counted",
    )


def _parameters(limits: Limits) -> str:
    text = f"{limits.pixels} {limits.seconds} {limits.memory_bytes}"
    return f"pictures-{HASH_VERSION}-{xxhash.xxh3_64_hexdigest(text.encode())}"


def _put(found: Fingerprints, place: int, line: _Line) -> None:
    found.sha256[place] = line.sha256
    found.dct[place] = line.dct
    found.state[place] = line.state


class _Stamps:
    """What changes when a picture's bytes may have changed: size and time of its file."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._archives: dict[str, str] = {}

    def of(self, reference: str) -> str:
        if not reference.startswith(SCHEME):
            return self._file(reference)
        archive = reference.removeprefix(SCHEME).partition("!/")[0]
        if archive not in self._archives:
            self._archives[archive] = "remote" if is_url(archive) else self._file(archive)
        return self._archives[archive]

    def _file(self, path: str) -> str:
        try:
            status = os.stat(f"{self._images.root}/{path}")  # noqa: PTH116 - a hot path
        except (OSError, ValueError):
            return "absent"
        return f"{status.st_size}.{status.st_mtime_ns}"


def _recall(folder: Path | None, keys: list[str], found: Fingerprints) -> list[int]:
    """Fill in what is kept from earlier runs; give the places of the others."""
    known = np.zeros(len(keys), bool)
    if folder is None or not folder.is_dir() or not keys:
        return list(range(len(keys)))
    wanted = pa.array(keys, pa.string())
    for part in _parts(folder):
        at = pc.index_in(wanted, part.column("key"))
        hit = np.flatnonzero(pc.is_valid(at).to_numpy(zero_copy_only=False) & ~known)
        if not len(hit):
            continue
        lines = part.take(at.take(pa.array(hit)))
        digests = lines.column("sha256").combine_chunks().to_pylist()
        found.sha256[hit] = np.frombuffer(b"".join(digests), "V32")
        found.dct[hit] = lines.column("dct").to_numpy()
        found.state[hit] = lines.column("state").to_numpy()
        known[hit] = True
    return np.flatnonzero(~known).tolist()


def _parts(folder: Path) -> Iterator[pa.Table]:
    for path in sorted(folder.glob("*.arrow")):
        try:
            part = ipc.open_file(pa.py_buffer(path.read_bytes())).read_all()
            part.validate(full=True)
        except (pa.ArrowException, OSError):
            continue  # a damaged part is worth nothing: its pictures are hashed again
        if part.schema == _SCHEMA and pc.max(part.column("state")).as_py() in range(len(STATES)):
            yield part


class _Keeper:
    """Writes fingerprints in parts, each whole or not at all."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lines: list[_Line] = []

    def add(self, line: _Line) -> None:
        if self._folder is not None:
            self._lines.append(line)
            if len(self._lines) >= PART_PICTURES:
                self.write()

    def write(self) -> None:
        if self._folder is None or not self._lines:
            return
        columns = [
            pa.array(values, kind.type)
            for values, kind in zip(zip(*self._lines, strict=True), _SCHEMA, strict=True)
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=_SCHEMA)
        sink = pa.BufferOutputStream()
        with ipc.new_file(sink, _SCHEMA) as writer:
            writer.write_batch(batch)
        data = sink.getvalue().to_pybytes()
        self._lines = []
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Named by its content: who else writes here at the same time writes the same.
            write_file(self._folder / f"{xxhash.xxh3_64_hexdigest(data)}.arrow", data)
        except DiskError:
            raise
        except (OutputError, PermissionError):  # somebody else's tables: do without
            self._folder = None


def refuse_unsafe(reference: str) -> None:
    """Refuse a reference that leaves ROOT; a table may come from somebody else."""
    if reference.startswith(SCHEME):
        reference = reference.removeprefix(SCHEME).partition("!/")[0]
    safe_path(reference)
