"""Masks as COCO writes them: polygons around the pixels, and run lengths for crowds."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

Corner = tuple[int, int]
_TOLERANCE = 0.75  # pixels that a corner may lie beside the simplified line
_SMALLEST = 6.0  # square pixels; smaller crumbs of a mask are left out of its polygons


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of 0 and 1 in turn, down the columns, starting with 0.

    Example:
        >>> run_lengths(np.array([[False, True], [True, True]]))
        [1, 3]
        >>> run_lengths(np.array([[True, False]]))
        [0, 1, 1]
    """
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths: list[int] = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    return [0, *lengths] if flat[0] else lengths


def extent(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """(left, top, width, height) of the pixels of a mask; all 0 where it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return 0, 0, 0, 0
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


def polygons(mask: NDArray[np.bool_]) -> tuple[list[list[float]], float]:
    """Polygons around every connected part of a mask, and the area that they enclose.

    Holes are filled, since COCO's polygons cannot say them.

    Example:
        >>> polygons(np.ones((3, 4), dtype=bool))
        ([[0, 0, 4, 0, 4, 3, 0, 3]], 12.0)
    """
    found: list[list[float]] = []
    total = 0.0
    left, top, width, height = extent(mask)
    for loop in _loops(mask[top : top + height, left : left + width]):
        if _area(loop) < _SMALLEST:  # negative around a hole
            continue
        corners = _simplify(loop)
        area = _area(corners)
        if len(corners) >= 3 and area >= _SMALLEST:
            found.append([part for x, y in corners for part in (x + left, y + top)])
            total += area
    return found, total


def _loops(mask: NDArray[np.bool_]) -> list[list[Corner]]:
    """Closed walks along pixel edges, with the mask on the right hand (y runs down)."""
    padded = np.pad(mask, 1)
    steps: dict[Corner, list[Corner]] = defaultdict(list)
    for horizontal in (True, False):
        first, second = (
            (padded[:-1, 1:-1], padded[1:, 1:-1])
            if horizontal
            else (padded[1:-1, :-1], padded[1:-1, 1:])
        )
        for enters in (True, False):
            ys, xs = np.nonzero((~first & second) if enters else (first & ~second))
            for y, x in zip(ys.tolist(), xs.tolist(), strict=True):
                other = (x + 1, y) if horizontal else (x, y + 1)
                # Into the mask from above: eastwards; from the left: northwards.
                start, end = ((x, y), other) if enters == horizontal else (other, (x, y))
                steps[start].append(end)
    loops = []
    for start in sorted(steps):
        while steps[start]:
            loop, here, before = [start], steps[start].pop(), start
            while here != start:
                loop.append(here)
                onward = steps[here]
                if len(onward) == 2:  # two pixels touch at a corner: turn right, stay with this one
                    right = (here[0] - (here[1] - before[1]), here[1] + (here[0] - before[0]))
                    choice = onward.index(right)
                else:
                    choice = 0
                before, here = here, onward.pop(choice)
            loops.append(_straightened(loop))
    return loops


def _straightened(loop: list[Corner]) -> list[Corner]:
    """The loop without the points in the middle of its straight runs."""
    around = zip([loop[-1], *loop[:-1]], loop, [*loop[1:], loop[0]], strict=True)
    return [b for a, b, c in around if not (a[0] == b[0] == c[0] or a[1] == b[1] == c[1])]


def _area(loop: list[Corner]) -> float:
    around = zip(loop, [*loop[1:], loop[0]], strict=True)
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in around) / 2


def _simplify(loop: list[Corner]) -> list[Corner]:
    """Ramer, Douglas and Peucker's simplification of a closed loop."""
    points = np.array([*loop, loop[0]], dtype=np.float64)
    far = int(np.argmax(((points - points[0]) ** 2).sum(axis=1)))
    keep = {0, far}
    todo = [(0, far), (far, len(loop))]
    while todo:
        first, last = todo.pop()
        if last - first < 2:
            continue
        base = points[last] - points[first]
        away = points[first + 1 : last] - points[first]
        distance = np.abs(base[0] * away[:, 1] - base[1] * away[:, 0]) / np.hypot(*base)
        worst = int(np.argmax(distance))
        if distance[worst] > _TOLERANCE:
            middle = first + 1 + worst
            keep.add(middle)
            todo += [(first, middle), (middle, last)]
    return [loop[place] for place in sorted(keep)]
