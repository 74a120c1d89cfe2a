"""The COCO folder: pictures, captions, instances, keypoints and panoptic maps."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from itertools import count

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vision_ift.demo._categories import IDS, PANOPTIC, PERSON, THINGS
from vision_ift.demo._choices import Choices
from vision_ift.demo._files import Record, Tree, encode
from vision_ift.demo._outline import extent, polygons, run_lengths
from vision_ift.demo._places import PLACES
from vision_ift.demo._scene import Scene, Thing
from vision_ift.demo._stage import compose
from vision_ift.demo._words import captions

_LICENSES = (
    ("by-nc-sa/2.0/", "Attribution-NonCommercial-ShareAlike License"),
    ("by-nc/2.0/", "Attribution-NonCommercial License"),
    ("by-nc-nd/2.0/", "Attribution-NonCommercial-NoDerivs License"),
    ("by/2.0/", "Attribution License"),
    ("by-sa/2.0/", "Attribution-ShareAlike License"),
    ("by-nd/2.0/", "Attribution-NoDerivs License"),
)
LICENSES = [
    *(
        {"url": f"http://creativecommons.org/licenses/{path}", "id": number, "name": name}
        for number, (path, name) in enumerate(_LICENSES, start=1)
    ),
    {"url": "http://flickr.com/commons/usage/", "id": 7, "name": "No known copyright restrictions"},
    {"url": "http://www.usa.gov/copyright.shtml", "id": 8, "name": "United States Government Work"},
]
_NO_RESTRICTIONS = 7


@dataclass(frozen=True, slots=True)
class Shot:
    """A COCO picture: its id, the folder where it lies, and its half of the splits of 2014."""

    id: int
    folder: str
    half: str
    scene: Scene
    data: bytes

    @property
    def name(self) -> str:
        """The file name in its own folder."""
        plain = f"{self.id:012d}.jpg"
        return f"COCO_{self.folder}_{plain}" if self.folder.endswith("2014") else plain

    @property
    def old_name(self) -> str:
        """The file name in the release of 2014."""
        return f"COCO_{self.half}_{self.id:012d}.jpg"


def take_shots(choices: Choices, train: int, val: int, old: int) -> list[Shot]:
    """So many pictures of train2017, val2017 and of train2014 alone, ids in mixed order.

    As in COCO, all of val2017 comes from val2014, and train2017 from both halves of 2014. One
    picture each of train2017 and val2017 has no object in it.
    """
    folders = choices.shuffled(
        ["train2017"] * train + ["val2017"] * val + ["train2014"] * old, "folders"
    )
    empty = {folders.index("train2017"), folders.index("val2017")}
    shots, number = [], 0
    for place, folder in enumerate(folders):
        number += 1 + choices.below(8, "step", place)
        mixed = "val2014" if choices.below(3, "half", number) == 0 else "train2014"
        half = {"val2017": "val2014", "train2014": "train2014"}.get(folder, mixed)
        setting = tuple(PLACES)[place % len(PLACES)]
        scene = compose(
            f"coco/{number}", choices.under("scene", number), place=setting, empty=place in empty
        )
        shots.append(Shot(number, folder, half, scene, encode(scene.picture())))
    return sorted(shots, key=lambda shot: shot.id)


def write_coco(tree: Tree, shots: list[Shot], choices: Choices) -> None:
    """Pictures and the eight annotation files of 2017."""
    for shot in shots:
        tree.picture(f"coco/{shot.folder}/{shot.name}", shot.data)
    ids = count(1)
    for split in ("train2017", "val2017"):
        chosen = [shot for shot in shots if shot.folder == split]
        _write_split(tree, split, chosen, ids, choices)


def _write_split(
    tree: Tree, split: str, shots: list[Shot], ids: count[int], choices: Choices
) -> None:
    images = [_image(shot) for shot in shots]
    said: list[Record] = []
    instances: list[Record] = []
    people: list[Record] = []
    maps: list[Record] = []
    for shot in shots:
        texts = captions(shot.scene, choices.under("captions", shot.id))
        said += [{"image_id": shot.id, "id": next(ids), "caption": text} for text in texts]
        owners = shot.scene.owners()
        first = len(shot.scene.layers) + 1
        for place, thing in enumerate(shot.scene.things):
            record = _instance(shot, thing, owners == first + place, next(ids))
            instances.append(record)
            if thing.name == "person":
                people.append(_with_keypoints(record, thing, owners, first + place))
        name = f"{shot.id:012d}.png"
        data, segments = _panoptic(shot.scene, owners, choices.under("panoptic", shot.id))
        tree.put(f"coco/annotations/panoptic_{split}/{name}", data)
        maps.append({"segments_info": segments, "file_name": name, "image_id": shot.id})
    base: dict[str, object] = {"info": _info(2017), "licenses": LICENSES, "images": images}
    for name, records, more in (
        ("captions", said, {}),
        ("instances", instances, {"categories": THINGS}),
        ("person_keypoints", people, {"categories": [PERSON]}),
        ("panoptic", maps, {"info": _info(2018), "categories": PANOPTIC}),
    ):
        path = f"coco/annotations/{name}_{split}.json"
        tree.value(path, {**base, "annotations": records, **more}, len(records))
        tree.counts[f"{path}:images"] = len(images)


def _info(year: int) -> Record:
    return {
        "description": f"Drawn scenes in the layout of COCO {year}",
        "url": "",
        "version": "1.0",
        "year": year,
        "contributor": "vision_ift",
        "date_created": f"{year}/09/01",
    }


def _image(shot: Shot) -> Record:
    return {
        "license": _NO_RESTRICTIONS,
        "file_name": shot.name,
        "coco_url": f"http://example.org/{shot.folder}/{shot.name}",
        "height": shot.scene.height,
        "width": shot.scene.width,
        "date_captured": f"2013-11-{1 + shot.id % 28:02d} 12:00:00",
        "flickr_url": "",
        "id": shot.id,
    }


def _instance(shot: Shot, thing: Thing, mask: NDArray[np.bool_], number: int) -> dict[str, object]:
    segmentation: object
    box: list[float]
    if thing.crowd:
        segmentation = {"counts": run_lengths(mask), "size": list(mask.shape)}
        area, box = float(mask.sum()), [float(side) for side in extent(mask)]
    else:
        found, area = polygons(mask)
        segmentation = found
        assert found, f"{shot.id}: nothing is seen of {thing.name}"
        xs = [x for outline in found for x in outline[::2]]
        ys = [y for outline in found for y in outline[1::2]]
        box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return {
        "segmentation": segmentation,
        "area": area,
        "iscrowd": int(thing.crowd),
        "image_id": shot.id,
        "bbox": [float(side) for side in box],
        "category_id": IDS[thing.name],
        "id": number,
    }


def _with_keypoints(record: Record, thing: Thing, owners: NDArray[np.uint8], owner: int) -> Record:
    """The instance with its joints: 2 where seen, 1 where something hides it, 0 outside."""
    height, width = owners.shape
    flat: list[int] = []
    for u, v in thing.keypoints:
        x, y = int(u), int(v)
        inside = 0 <= x < width and 0 <= y < height
        flat += [x, y, 2 if owners[y, x] == owner else 1] if inside else [0, 0, 0]
    flat = flat or [0] * 51
    seen = sum(flag > 0 for flag in flat[2::3])
    return {**record, "num_keypoints": seen, "keypoints": flat}


def _panoptic(
    scene: Scene, owners: NDArray[np.uint8], choices: Choices
) -> tuple[bytes, list[Record]]:
    """The PNG of segment ids (R + 256 G + 65536 B) and what every id is."""
    parts = [(layer.stuff, False, layer.stuff) for layer in scene.layers]
    parts += [(thing.name, thing.crowd, f"thing {n}") for n, thing in enumerate(scene.things)]
    numbers: dict[str, int] = {}  # segments in the order of their first part
    table = np.zeros(len(parts) + 1, dtype=np.uint8)
    colours = np.zeros((len(parts) + 1, 3), dtype=np.uint8)
    found: dict[int, tuple[str, bool]] = {}
    for owner, (name, crowd, segment) in enumerate(parts, start=1):
        if segment not in numbers:
            turn = 0
            while (new := 1 + choices.below(0xFFFFFF, segment, turn)) in found:
                turn += 1
            found[new] = name, crowd
            numbers[segment] = len(found)
        table[owner] = numbers[segment]
    for number, segment_id in enumerate(found, start=1):
        colours[number] = segment_id & 255, segment_id >> 8 & 255, segment_id >> 16
    grid = table[owners]
    buffer = BytesIO()
    Image.fromarray(colours[grid]).save(buffer, "PNG")
    segments: list[Record] = []
    for number, (segment_id, (name, crowd)) in enumerate(found.items(), start=1):
        mask = grid == number
        if mask.any():
            segments.append(
                {
                    "id": segment_id,
                    "category_id": IDS[name],
                    "iscrowd": int(crowd),
                    "bbox": list(extent(mask)),
                    "area": int(mask.sum()),
                }
            )
    return buffer.getvalue(), segments
