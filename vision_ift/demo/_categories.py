"""COCO's categories: 80 of things and 53 of stuff, with the ids of the official files."""

from __future__ import annotations

_THINGS = """
person: 1 person
vehicle: 2 bicycle, 3 car, 4 motorcycle, 5 airplane, 6 bus, 7 train, 8 truck, 9 boat
outdoor: 10 traffic light, 11 fire hydrant, 13 stop sign, 14 parking meter, 15 bench
animal: 16 bird, 17 cat, 18 dog, 19 horse, 20 sheep, 21 cow, 22 elephant, 23 bear
animal: 24 zebra, 25 giraffe
accessory: 27 backpack, 28 umbrella, 31 handbag, 32 tie, 33 suitcase
sports: 34 frisbee, 35 skis, 36 snowboard, 37 sports ball, 38 kite, 39 baseball bat
sports: 40 baseball glove, 41 skateboard, 42 surfboard, 43 tennis racket
kitchen: 44 bottle, 46 wine glass, 47 cup, 48 fork, 49 knife, 50 spoon, 51 bowl
food: 52 banana, 53 apple, 54 sandwich, 55 orange, 56 broccoli, 57 carrot, 58 hot dog, 59 pizza
food: 60 donut, 61 cake
furniture: 62 chair, 63 couch, 64 potted plant, 65 bed, 67 dining table, 70 toilet
electronic: 72 tv, 73 laptop, 74 mouse, 75 remote, 76 keyboard, 77 cell phone
appliance: 78 microwave, 79 oven, 80 toaster, 81 sink, 82 refrigerator
indoor: 84 book, 85 clock, 86 vase, 87 scissors, 88 teddy bear, 89 hair drier, 90 toothbrush
"""
_STUFF = """
textile: 92 banner, 93 blanket
building: 95 bridge
raw-material: 100 cardboard
furniture-stuff: 107 counter
textile: 109 curtain
furniture-stuff: 112 door-stuff
floor: 118 floor-wood
plant: 119 flower
food-stuff: 122 fruit
ground: 125 gravel
building: 128 house
furniture-stuff: 130 light, 133 mirror-stuff
structural: 138 net
textile: 141 pillow
ground: 144 platform, 145 playingfield, 147 railroad
water: 148 river
ground: 149 road
building: 151 roof
ground: 154 sand
water: 155 sea
furniture-stuff: 156 shelf
ground: 159 snow
furniture-stuff: 161 stairs
building: 166 tent
textile: 168 towel
wall: 171 wall-brick, 175 wall-stone, 176 wall-tile, 177 wall-wood
water: 178 water-other
window: 180 window-blind, 181 window-other
plant: 184 tree-merged
structural: 185 fence-merged
ceiling: 186 ceiling-merged
sky: 187 sky-other-merged
furniture-stuff: 188 cabinet-merged, 189 table-merged
floor: 190 floor-other-merged
ground: 191 pavement-merged
solid: 192 mountain-merged
plant: 193 grass-merged
ground: 194 dirt-merged
raw-material: 195 paper-merged
food-stuff: 196 food-other-merged
building: 197 building-other-merged
solid: 198 rock-merged
wall: 199 wall-other-merged
textile: 200 rug-merged
"""


def _read(text: str) -> list[tuple[str, int, str]]:
    found = []
    for line in filter(None, text.splitlines()):
        group, _, entries = line.partition(": ")
        for entry in entries.split(", "):
            number, _, name = entry.partition(" ")
            found.append((group, int(number), name))
    return found


THINGS = [
    {"supercategory": group, "id": number, "name": name} for group, number, name in _read(_THINGS)
]
PANOPTIC = [
    {"supercategory": group, "isthing": isthing, "id": number, "name": name}
    for isthing, text in ((1, _THINGS), (0, _STUFF))
    for group, number, name in _read(text)
]
IDS: dict[str, int] = {name: number for _, number, name in _read(_THINGS + _STUFF)}
PERSON = {
    "supercategory": "person",
    "id": 1,
    "name": "person",
    "keypoints": [
        "nose",
        *(f"{side}_{part}" for part in ("eye", "ear") for side in ("left", "right")),
        *(
            f"{side}_{part}"
            for part in ("shoulder", "elbow", "wrist")
            for side in ("left", "right")
        ),
        *(f"{side}_{part}" for part in ("hip", "knee", "ankle") for side in ("left", "right")),
    ],
    "skeleton": [
        *([16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8]),
        *([7, 9], [8, 10], [9, 11], [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7]),
    ],
}
