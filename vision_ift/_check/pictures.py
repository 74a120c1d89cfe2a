"""What a check keeps of every distinct picture: columns, some sixty bytes beside the reference."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from vision_ift._archives.archive import SCHEME
from vision_ift._build import Progress
from vision_ift._errors import REASONS, MissingInputError, RecordError
from vision_ift._pictures.child import PICTURE_REASONS, Limits, Picture
from vision_ift._pictures.decode import decode_all
from vision_ift._pictures.images import Images, safe_path
from vision_ift._table import Table
from vision_ift._tokens import ImageRule

#: What a row can be listed for; of several, the first in this order is named.
CHECK_REASONS: dict[str, str] = {
    "image_count": REASONS["image_count"],
    "unsafe_path": "a reference is absolute, climbs with '..', or names a URL",
    **PICTURE_REASONS,
    "image_refused": "the model's processor refuses a picture of this shape",
    "too_long": "text and pictures take more tokens than the context",
}
CODES = {reason: code for code, reason in enumerate(CHECK_REASONS, 1)}
NAMES = ("", *CHECK_REASONS)

#: What stands for a picture's tokens where they are not known, or where its rule refuses it.
UNKNOWN, REFUSED = -1, -2


class Part(NamedTuple):
    """A table, or some of its rows, under the name by which it is reported."""

    name: str
    table: Table
    rows: NDArray[np.int64] | None

    @property
    def size(self) -> int:
        return len(self.table) if self.rows is None else len(self.rows)

    def batches(self, columns: list[str]) -> Iterator[tuple[NDArray[np.int64], pa.RecordBatch]]:
        """Yield row numbers and rows, a row group at a time."""
        start = 0
        for batch in self.table.batches(columns):
            numbers = np.arange(start, start + batch.num_rows)
            start += batch.num_rows
            if self.rows is not None:
                low, high = np.searchsorted(self.rows, (numbers[0], start))
                numbers = self.rows[low:high]
                batch = batch.take(pa.array(numbers - (start - batch.num_rows)))
            yield numbers, batch


class Shown:
    """The distinct references of all parts in order, and which of them each row shows."""

    def __init__(self, parts: list[Part]) -> None:
        # One array of 64-bit offsets: encoding a chunk at a time copies the dictionary every time.
        chunks = [
            batch.column("images").flatten().field("path").cast(pa.large_string())
            for part in parts
            for _, batch in part.batches(["images.list.element.path"])
        ]
        sizes = [len(chunk) for chunk in chunks]
        whole = pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_string())
        del chunks
        encoded = whole.dictionary_encode()
        self.references: pa.Array = encoded.dictionary
        codes = encoded.indices.to_numpy()
        #: One array of codes a batch, in the order in which the parts give their batches.
        self.codes: list[NDArray[np.int32]] = np.split(codes, np.cumsum(sizes)[:-1])


class Pictures:
    """What is known of every distinct picture, in columns."""

    def __init__(self, references: pa.Array) -> None:
        size = len(references)
        self._references = references
        self.reason = np.zeros(size, np.uint8)
        self.decoded = np.zeros(size, bool)
        self._columns: dict[str, NDArray[Any]] = {
            "width": np.zeros(size, np.uint32),
            "height": np.zeros(size, np.uint32),
            "frames": np.zeros(size, np.uint32),
            "bytes": np.zeros(size, np.int64),
            "orientation": np.ones(size, np.uint8),
            "animated": np.zeros(size, bool),
            "has_alpha": np.zeros(size, bool),
            "complete": np.ones(size, bool),
        }
        self._words: dict[str, tuple[NDArray[np.uint8], dict[str, int]]] = {
            "format": (np.zeros(size, np.uint8), {"": 0}),
            "mode": (np.zeros(size, np.uint8), {"": 0}),
        }
        self._digests = np.zeros(size, "V16")
        self.details: dict[int, str] = {}

    def look(
        self, images: Images, share: Fraction, *, limits: Limits, jobs: int, progress: Progress
    ) -> None:
        """Decode the share that is drawn, and look for the others."""
        drawn = self._drawn(share)
        wanted = np.flatnonzero(drawn)

        def read(reference: str) -> bytes:
            _refuse_unsafe(reference)
            try:
                return images.read(reference)
            except RecordError as error:  # the report is the same wherever ROOT lies
                detail = error.detail.replace(f"{images.root}/", "")
                raise RecordError(detail, reason=error.reason) from None

        found = decode_all(
            (self._references[code].as_py() for code in wanted), read, jobs=jobs, limits=limits
        )
        for done, (code, picture) in enumerate(zip(wanted.tolist(), found, strict=True), 1):
            self._put(code, picture)
            progress("check pictures", done, len(wanted))
        for code in np.flatnonzero(~drawn).tolist():
            reference = self._references[code].as_py()
            try:
                _refuse_unsafe(reference)
                self._columns["bytes"][code] = images.size(reference)
            except MissingInputError:
                self._blame(code, "missing_image", "there is no such file or member")
            except RecordError as error:
                self._blame(code, error.reason, "its archive cannot be read")

    def _drawn(self, share: Fraction) -> NDArray[np.bool_]:
        if share == 1:
            return np.ones(len(self._references), bool)
        limit = int(share * 2**64)
        hashes = (xxhash.xxh3_64_intdigest(one.as_py().encode()) for one in self._references)
        return np.fromiter((one < limit for one in hashes), bool, len(self._references))

    def _blame(self, code: int, reason: str, detail: str) -> None:
        self.reason[code] = CODES[reason]
        self.details[code] = detail

    def _put(self, code: int, picture: Picture) -> None:
        if picture.reason:
            self._blame(code, picture.reason, picture.detail)
        self.decoded[code] = not picture.reason
        for name, column in self._columns.items():
            column[code] = getattr(picture, name)
        for name, (codes, known) in self._words.items():
            word = getattr(picture, name)
            codes[code] = known.setdefault(word, len(known)) if len(known) < 255 else 0
        self._digests[code] = bytes.fromhex(picture.xxh3_128 or "00" * 16)

    def tokens(self, rule: ImageRule | None) -> NDArray[np.int32]:
        """The tokens of every picture: what it shows, ``UNKNOWN`` or ``REFUSED``."""
        found = np.full(len(self.reason), UNKNOWN, np.int32)
        if rule is None:
            return found
        known: dict[tuple[int, int], int] = {}
        turned = self._columns["orientation"] >= 5
        width = np.where(turned, self._columns["height"], self._columns["width"])
        height = np.where(turned, self._columns["width"], self._columns["height"])
        for code in np.flatnonzero(self.decoded).tolist():
            size = (int(width[code]), int(height[code]))
            if size not in known:
                tokens = rule(*size)
                known[size] = REFUSED if tokens is None else tokens
            found[code] = known[size]
        return found

    def size_text(self, code: int) -> str:
        """Write a picture's reference and size, for a person."""
        width, height = self._columns["width"][code], self._columns["height"][code]
        return f"{self._references[code].as_py()}: {width} x {height}"

    def blame_text(self, code: int) -> str:
        """Write a picture's reference and what is wrong with it."""
        return f"{self._references[code].as_py()}: {self.details[code]}"

    def describe(self) -> dict[str, Any]:
        """Count what was decoded: the fields of the report that are about pictures."""
        good = self.decoded
        values, counts = np.unique(self._columns["orientation"][good], return_counts=True)
        first = self._first_of_equals()
        copies = first != np.arange(len(first))
        return {
            "references": len(self._references),
            "decoded": int(good.sum()),
            "formats": self._counted("format"),
            "modes": self._counted("mode"),
            "orientations": {str(value): int(n) for value, n in zip(values, counts, strict=True)},
            "animated": int(self._columns["animated"][good].sum()),
            "with_alpha": int(self._columns["has_alpha"][good].sum()),
            "incomplete": int((~self._columns["complete"][good]).sum()),
            "duplicates": {
                "groups": len(np.unique(first[copies])),
                "pictures": int(copies.sum()),
                "bytes": int(self._columns["bytes"][copies].sum()),
            },
        }

    def _counted(self, name: str) -> dict[str, int]:
        codes, known = self._words[name]
        counts = np.bincount(codes[self.decoded], minlength=len(known))
        return {word: int(counts[known[word]]) for word in sorted(known) if counts[known[word]]}

    def _first_of_equals(self) -> NDArray[np.int64]:
        """For each picture the first one with the same bytes; itself where it is alone."""
        first = np.arange(len(self._digests))
        read = np.flatnonzero(self._digests != np.zeros(1, "V16"))
        _, places, back = np.unique(self._digests[read], return_index=True, return_inverse=True)
        first[read] = read[places[back.reshape(-1)]]
        return first

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield ``images.parquet``: a line a picture."""
        first = self._first_of_equals()
        step = 1 << 16
        for start in range(0, len(self.reason), step):
            span = slice(start, start + step)
            codes = range(start, min(start + step, len(self.reason)))
            here = first[span]
            words = {
                name: pa.array(np.array(list(known), object)[codes_of[span]], pa.string())
                for name, (codes_of, known) in self._words.items()
            }
            digests = [one.tobytes().hex() for one in self._digests[span]]
            yield pa.RecordBatch.from_pydict(
                {
                    "reference": self._references[span.start : codes.stop].cast(pa.string()),
                    "decoded": self.decoded[span],
                    "reason": pa.array([NAMES[code] for code in self.reason[span]], pa.string()),
                    "detail": pa.array([self.details.get(code, "") for code in codes], pa.string()),
                    **words,
                    **{name: column[span] for name, column in self._columns.items()},
                    "xxh3_128": pa.array(
                        [None if set(one) == {"0"} else one for one in digests], pa.string()
                    ),
                    "duplicate_of": self._references.take(
                        pa.array(here, pa.int64(), mask=here == np.arange(start, codes.stop))
                    ).cast(pa.string()),
                }
            )


def _refuse_unsafe(reference: str) -> None:
    """Refuse a reference that leaves ROOT; a table may come from somebody else."""
    if reference.startswith(SCHEME):
        reference = reference.removeprefix(SCHEME).partition("!/")[0]
    safe_path(reference)
