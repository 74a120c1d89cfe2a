"""The templates of COCO-IFT, and how rounds on one picture become dialogs.

The user side of the eleven templates is Table 1 of the paper (arXiv 2401.08968), word for word.
How answers are laid out, and how rounds are grouped, was not published: both are ours.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
import xxhash


class Template(NamedTuple):
    """What the user says for one task, and under which terms its annotations are published.

    Attributes:
        text: The user's turn; ``{question}`` or ``{category}`` is filled in.
        license: SPDX identifier; ``LicenseRef-not-stated`` where the authors state none.
    """

    text: str
    license: str


_SHORT = "{question} Answer the question with a short phrase."
_CC_BY = "CC-BY-4.0"
_UNSTATED = "LicenseRef-not-stated"

#: The paper's Table 1: task to template, in the order of the table.
PAPER: dict[str, Template] = {
    "captions": Template("Describe the content of this image in 20 words.", _CC_BY),
    "paragraphs": Template("Describe the image in one paragraph.", _UNSTATED),
    "cocoqa": Template(_SHORT, _UNSTATED),
    "vgqa": Template(_SHORT, _CC_BY),
    "vqav2": Template(_SHORT, _CC_BY),
    "okvqa": Template(_SHORT, _CC_BY),
    "stvqa": Template(_SHORT, _UNSTATED),
    "tallyqa": Template("{question} Answer the question with a number.", _UNSTATED),
    "vqae": Template(
        "{question} Answer with a short phrase and provide explanation for your answer.", _UNSTATED
    ),
    "vsr": Template(
        "{question} Please answer yes or no about whether the statement about the image is true.",
        "Apache-2.0",
    ),
    "aokvqa": Template(
        "{question} Answer with options' letter from the given choices and provide explanation "
        "for your choice.",
        "Apache-2.0",
    ),
}

#: Tasks beyond the paper, made of COCO's own boxes, keypoints and segments.
EXTRAS: dict[str, Template] = {
    "presence": Template('Is any "{category}" visible in this image? Answer yes or no.', _CC_BY),
    "counting": Template(
        'How many objects of the kind "{category}" are in this image? Answer the question with a '
        "number.",
        _CC_BY,
    ),
    "location": Template(
        'Where is each "{category}" in this image? Give one box a line, from left to right, as '
        "[x1, y1, x2, y2] in thousandths of the image's width and height.",
        _CC_BY,
    ),
    "pose": Template(
        "For each person in this image, from left to right, list the body parts that are visible.",
        _CC_BY,
    ),
    "things_and_stuff": Template(
        "Which things and which stuff are in this image? Give the number of each kind of thing.",
        _CC_BY,
    ),
}

TEMPLATES: dict[str, Template] = PAPER | EXTRAS
_TASKS = tuple(TEMPLATES)
_NUMBERS = {task: number for number, task in enumerate(_TASKS)}


class Round(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A question on a picture and its answer, as a source gives it.

    Attributes:
        image: COCO's id of the picture.
        id: The source's own id of the annotation; unique in its task.
        question: What fills the template; empty where the template asks by itself. For a question
            with choices, the choices follow on lines of their own.
        answer: The assistant's turn.
        meta: Whatever else of the record is kept.
    """

    image: int
    id: int | str
    question: str
    answer: str
    meta: dict[str, Any]


class Placed(NamedTuple):
    """A round with the task and the file that it comes from."""

    task: str
    file: str
    round: Round


def user_text(task: str, question: str) -> str:
    """Give the words of the user's turn.

    >>> user_text("tallyqa", "How many cups?")
    'How many cups? Answer the question with a number.'
    >>> print(user_text("aokvqa", "What is it?\\nA. cat\\nB. dog"))
    What is it?
    A. cat
    B. dog
    Answer with options' letter from the given choices and provide explanation for your choice.
    """
    text = TEMPLATES[task].text
    if "\n" in question:  # choices: the instruction stands on a line of its own below them
        text = text.replace("{question} ", "{question}\n", 1)
    for slot in ("{question}", "{category}"):
        if slot in text:
            return text.replace(slot, question, 1)
    return text


class Store:
    """Rounds of one split, packed: about 150 bytes each instead of a kilobyte of objects."""

    def __init__(self) -> None:
        self._images = array("q")
        self._tasks = array("B")
        self._files = array("H")
        self._starts = array("q")
        self._packed = bytearray()
        self._names: dict[str, int] = {}
        self._encoder = msgspec.msgpack.Encoder()

    def __len__(self) -> int:
        return len(self._images)

    def add(self, task: str, file: str, found: Round) -> None:
        """Keep a round."""
        self._images.append(found.image)
        self._tasks.append(_NUMBERS[task])
        self._files.append(self._names.setdefault(file, len(self._names)))
        self._starts.append(len(self._packed))
        self._packed += self._encoder.encode(found)

    def by_image(self) -> Iterator[tuple[int, list[Placed]]]:
        """Yield each picture's id, ascending, with its rounds in the order of :func:`rank`."""
        if not len(self):
            return
        decoder = msgspec.msgpack.Decoder(Round)
        packed = memoryview(self._packed)
        images = np.array(self._images, np.int64)
        order = np.argsort(images, kind="stable")
        starts = np.append(np.array(self._starts, np.int64), len(packed))
        files = list(self._names)
        cuts = np.flatnonzero(np.diff(images[order])) + 1
        bounds = [0, *cuts.tolist(), len(order)]
        for begin, end in pairwise(bounds):
            places = order[begin:end].tolist()
            rounds = [
                Placed(
                    _TASKS[self._tasks[place]],
                    files[self._files[place]],
                    decoder.decode(packed[starts[place] : starts[place + 1]]),
                )
                for place in places
            ]
            yield rounds[0].round.image, sorted(rounds, key=rank)


def rank(placed: Placed) -> tuple[int, str, str]:
    """Give a round's place among those of its picture: XXH3-64 of ``image/task/id`` as text.

    Fixed by the hash's specification, so it is the same on every machine, and no round's place
    depends on which other rounds there are.
    """
    name = f"{placed.round.image}/{placed.task}/{placed.round.id}"
    return xxhash.xxh3_64_intdigest(name.encode()), placed.task, str(placed.round.id)


def group(rounds: Sequence[Placed], max_rounds: int) -> list[list[Placed]]:
    """Divide one picture's rounds into dialogs of at most ``max_rounds``.

    The dialogs' lengths differ by one at most, and every task is spread evenly over them. Inside a
    dialog two neighbours are of the same task only where that cannot be avoided, and of the same
    wording (five tasks share one) only where the first rule leaves no choice.
    """
    dialogs = -(-len(rounds) // max_rounds)
    tasks = [placed.task for placed in rounds]
    counts = Counter(tasks)
    # The commonest task is dealt first: then none gets more than its dialog can keep apart.
    dealt = sorted(
        range(len(rounds)), key=lambda place: (-counts[tasks[place]], tasks.index(tasks[place]))
    )
    return [
        _arrange([rounds[place] for place in sorted(dealt[number::dialogs])])
        for number in range(dialogs)
    ]


def _arrange(rounds: list[Placed]) -> list[Placed]:
    """Put rounds in an order with the fewest possible neighbours of one task, keeping theirs."""
    if len(rounds) < 3:
        return rounds
    left = [(placed.task, TEMPLATES[placed.task].text, placed) for placed in rounds]
    counts = [Counter(one[kind] for one in left) for kind in (0, 1)]
    ordered: list[Placed] = []
    last: tuple[str, str, Placed] | None = None
    while left:
        fit = left
        for kind in (0, 1):  # by task first, then by wording among those that are left
            fit = _fit(fit, kind, counts[kind], last, len(left) - 1)
        last = fit[0]
        left = [one for one in left if one is not last]
        counts[0][last[0]] -= 1
        counts[1][last[1]] -= 1
        ordered.append(last[2])
    return ordered


def _fit(
    choices: list[tuple[str, str, Placed]],
    kind: int,
    counts: Counter[Any],
    last: tuple[str, str, Placed] | None,
    rest: int,
) -> list[tuple[str, str, Placed]]:
    """Keep the choices that differ from the last and leave the others able to be kept apart."""
    other = [one for one in choices if last is None or one[kind] != last[kind]]
    if not other:
        return choices
    if max(counts.values()) <= rest // 2:  # nothing is common enough to be in the way
        return other
    # After one is placed, another kind may hold half of the rest rounded up, its own rounded down.
    crowding = {name for name, count in counts.items() if count > (rest + 1) // 2}
    fair = [one for one in other if crowding <= {one[kind]} and counts[one[kind]] <= rest // 2 + 1]
    if fair:
        return fair
    most = max(counts[one[kind]] for one in other)  # it is more than half: every second place
    return [one for one in other if counts[one[kind]] == most]
