"""A picture's name without its folder and ending."""

from __future__ import annotations

PICTURE_ENDS = frozenset(("jpg", "jpeg", "png", "gif", "webp"))


def bare_name(path: str) -> str:
    """Give a path's last part without the ending of a picture.

    >>> bare_name("sa1b/sa_7.jpg"), bare_name("datacomp/0a.b")
    ('sa_7', '0a.b')
    """
    name = path.rpartition("/")[2]
    stem, _, end = name.rpartition(".")
    return stem if stem and end.lower() in PICTURE_ENDS else name
