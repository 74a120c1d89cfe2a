"""Write the cards of the sources and the shipped recipes: ``python -m vision_ift._cards cards``."""

from __future__ import annotations

import sys
from pathlib import Path

from vision_ift._cards.card import published_cards
from vision_ift._disk import write_file


def main(arguments: list[str]) -> int:
    """Write all cards into a folder, and remove those of what is no more.

    With ``--check`` nothing is written; 1 is returned where a card would change.
    """
    check = "--check" in arguments
    folders = [one for one in arguments if one != "--check"]
    if len(folders) != 1:
        sys.stderr.write("usage: python -m vision_ift._cards [--check] FOLDER\n")
        return 2
    folder = Path(folders[0])
    wanted = {name: text.encode() for name, text in published_cards().items()}
    there = {path.name: path.read_bytes() for path in sorted(folder.glob("*.md"))}
    changed = sorted(
        name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name)
    )
    for name in changed:
        sys.stdout.write(f"{'would change' if check else 'changed'}: {name}\n")
        if check:
            continue
        if name in wanted:
            folder.mkdir(parents=True, exist_ok=True)
            write_file(folder / name, wanted[name])
        else:
            (folder / name).unlink()
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
