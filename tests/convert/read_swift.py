"""Load a file as ms-swift does, in its own environment; prints the rows as JSON.

python read_swift.py FILE MEDIA_DIR
"""

from __future__ import annotations

import json
import os
import sys

os.environ.update(HF_HUB_OFFLINE="1", MODELSCOPE_CACHE=f"{sys.argv[1]}.cache")

from swift.dataset import load_dataset  # type: ignore[import-not-found]
from swift.template.template_inputs import StdTemplateInputs  # type: ignore[import-not-found]


def main(file: str, media: str) -> None:
    """Load strictly, and make of every row what a template takes."""
    os.chdir(media)
    rows, _ = load_dataset(file, strict=True, load_from_cache_file=False)
    told = []
    for row in rows:
        inputs = StdTemplateInputs.from_dict(dict(row))
        inputs = inputs[0] if isinstance(inputs, tuple) else inputs
        turns = [["system", inputs.system]] if inputs.system else []
        turns += [[turn["role"], turn["content"]] for turn in inputs.messages]
        images = [
            one if isinstance(one, str) else one["path"] if isinstance(one, dict) else repr(one)
            for one in inputs.images
        ]
        told.append(
            {
                "turns": turns,
                "images": [os.path.realpath(image) for image in images],
                "boxes": len((inputs.objects or {}).get("bbox") or []),
            }
        )
    sys.stdout.write("ROWS " + json.dumps(told) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
