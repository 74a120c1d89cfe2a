"""MMInstruct: JSON Lines per kind and per domain, and one zip of pictures."""

from __future__ import annotations

from collections import defaultdict

from PIL import Image

from vision_ift.demo._chinese import describe_cn
from vision_ift.demo._choices import Choices
from vision_ift.demo._files import Record, Tree, encode, rounds
from vision_ift.demo._queries import queries
from vision_ift.demo._query import Query
from vision_ift.demo._scene import Scene
from vision_ift.demo._stage import compose
from vision_ift.demo._words import PLACE, SCENERY, action, group, joined, ordered, paragraph

Turns = list[tuple[str, str]]

# Domain: the place that suits it (any if empty), categories wanted, kinds of queries.
_DOMAINS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "image_scene": ("", (), "place sky yes no"),
    "ocr": ("beach", ("boat",), "text count where"),
    "species_recognition": ("snow", ("dog", "cat"), "lore color count"),
    "spatial_relationship": ("park", ("bench", "dog"), "yes no where"),
    "numerical_calculation": ("kitchen", ("apple", "orange", "cup"), "count complex zero"),
    "object_relation": ("street", ("car", "person"), "yes doing color"),
    "commonsense_reasoning": ("railway", ("train", "clock"), "lore time where"),
    "writing": ("room", ("cat",), "place color"),
}
_CAPTIONED = (
    "image_scene",
    "ocr",
    "species_recognition",
    "spatial_relationship",
    "commonsense_reasoning",
)
_ASK_CAPTION = (
    "Describe the picture in detail.",
    "Please write a full description of what you see.",
    "What does this picture show? Leave nothing important out.",
    "Give a thorough account of this image.",
)
_ASK_CAPTION_CN = (
    "请详细描述这张图片。",
    "请告诉我图中有什么，尽量详细。",
    "用几句话介绍这幅画的内容。",
)
_SUFFIX_JUDGE = (" Please reply with Yes or No.", " Is the answer Yes or No?")
_SUFFIX_CHOICE = (" Pick the right option.", " Which option is right?")
_SUFFIX_SHORT = (" Keep it short.", " A few words are enough.")
_SUFFIX_LONG = (" Explain in detail.", " Please give a full explanation.")


def write_mminstruct(tree: Tree, choices: Choices, pictures: int) -> None:
    """So many pictures with at least two rows of questions for each."""
    members: list[tuple[str, bytes]] = []
    questions: dict[str, list[Record]] = defaultdict(list)
    english: dict[str, list[Record]] = defaultdict(list)
    chinese: dict[str, list[Record]] = defaultdict(list)
    pairs = max(1, pictures // 16)
    domains = tuple(_DOMAINS)
    for place in range(pictures - pairs):
        domain = domains[place % len(domains)]
        mine = choices.under(domain, place)
        setting, want, kinds = _DOMAINS[domain]
        scene = compose(f"mminstruct/{place}", mine, place=setting, want=want)
        suffix = (".webp", ".png", *[".jpg"] * 4)[
            place // len(domains) % 6 if place % 3 == 0 else 2
        ]
        path = f"{domain}/0001/{3 + place * 5 + mine.below(5, 'name'):08d}{suffix}"
        members.append((path, encode(scene.picture(), suffix)))
        for turns in _question_rows(scene, kinds, mine, writing=domain == "writing"):
            questions[domain].append(_row("qa", path, len(questions[domain]), turns))
        if domain in _CAPTIONED:
            rows = english[domain]
            asked = mine.pick(_ASK_CAPTION, "caption")
            rows.append(_row("caption", path, len(rows), [(asked, paragraph(scene, mine))]))
            cn_turns = [(mine.pick(_ASK_CAPTION_CN, "cn"), describe_cn(scene))]
            if place % 2 == 0:
                cn_rows = chinese[domain]
                cn_rows.append(_row("caption_cn", path, len(cn_rows), cn_turns))
            elif place in (1, 3):  # the English files hold a few Chinese rows
                rows.append(_row("caption", path, len(rows), cn_turns))
    for place in range(pairs):
        path = f"image_comparison/0001/{place + 1:08d}.jpg"
        scenes, picture = _side_by_side(choices.under("pair", place))
        members.append((path, encode(picture)))
        questions["image_comparison"].append(_row("qa", path, place, _compare(*scenes)))
    for kind, rows_by_domain, folder, end in (
        ("qa_en", questions, "qa_per_domain", "en"),
        ("caption_en", english, "caption_per_domain", "en"),
        ("caption_cn", chinese, "caption_per_domain", "cn"),
    ):
        everything = [row for rows in rows_by_domain.values() for row in rows]
        path = f"mminstruct/jsons_all/{kind}.jsonl"
        tree.lines(path, everything)
        tree.counts[f"{path}:rounds"] = rounds(everything)
        for domain, rows in rows_by_domain.items():
            tree.lines(f"mminstruct/jsons_per_domain/{folder}/{domain}_{end}.jsonl", rows)
    tree.archive("mminstruct/images.zip", members)


def _row(kind: str, path: str, place: int, turns: Turns) -> Record:
    said = []
    for turn, (question, answer) in enumerate(turns):
        said.append({"from": "human", "value": f"<image>\n{question}" if turn == 0 else question})
        said.append({"from": "gpt", "value": answer})
    stem = path.rsplit(".", 1)[0].replace("/", "_")
    return {"id": f"{stem}_{kind}_{place}", "image": path, "conversations": said}


def _question_rows(scene: Scene, kinds: str, choices: Choices, *, writing: bool) -> list[Turns]:
    """One row of a single round, one of several rounds, and sometimes a written piece."""
    every = queries(scene, choices)
    wanted = kinds.split()
    first = [query for kind in wanted for query in every if query.kind == kind]
    rest = [query for query in every if query.kind not in wanted]
    picked = [*first, *rest]
    rows = [
        [_posed(picked[0], scene, choices.under("single"))],
        [_posed(query, scene, choices.under("round", n)) for n, query in enumerate(picked[1:4])],
    ]
    if writing:
        things = joined([group(scene, name) for name in ordered(scene)])
        text = (
            f"Dear friend, greetings from {PLACE[scene.place]}! While I write this I see {things}. "
            f"{action(scene, ordered(scene)[0])} I wish you were here."
        )
        rows.append([("Write a postcard that fits this picture.", text)])
    return rows


def _posed(query: Query, scene: Scene, choices: Choices) -> tuple[str, str]:
    """A query as judgement, choice, short or long question, with its answer."""
    if query.answer in ("yes", "no"):
        return query.question + choices.pick(_SUFFIX_JUDGE, "judge"), query.answer.capitalize()
    form = choices.below(3, "form")
    if form == 0 and len(query.wrong) >= 3:
        options = choices.shuffled([query.answer, *query.wrong[:3]], "options")
        listed = "\n".join(
            f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True)
        )
        answer = f"{'ABCD'[options.index(query.answer)]}. {query.answer}"
        return f"{query.question}{choices.pick(_SUFFIX_CHOICE, 'choice')}\n{listed}", answer
    if form == 1:
        return query.question + choices.pick(_SUFFIX_SHORT, "short"), query.answer
    more = f"Around it one sees {SCENERY[scene.place]}."
    if query.about in scene.names and action(scene, query.about) != query.why:
        more = action(scene, query.about)
    return query.question + choices.pick(_SUFFIX_LONG, "long"), f"{query.why} {more}"


def _side_by_side(choices: Choices) -> tuple[tuple[Scene, Scene], Image.Image]:
    scenes = (
        compose(
            "pair/left",
            choices.under("left"),
            place=choices.pick(("park", "beach", "snow"), "left"),
        ),
        compose(
            "pair/right", choices.under("right"), place=choices.pick(("kitchen", "room"), "right")
        ),
    )
    sheet = Image.new("RGB", (648, 240), (255, 255, 255))
    for place, scene in enumerate(scenes):
        sheet.paste(scene.picture().resize((320, 240)), (328 * place, 0))
    return scenes, sheet


def _compare(left: Scene, right: Scene) -> Turns:
    shown = [
        joined([group(scene, name) for name in ordered(scene)]) if scene.things else "nothing else"
        for scene in (left, right)
    ]
    told = (
        f"The left subimage shows {PLACE[left.place]} with {shown[0]}. "
        f"The right subimage shows {PLACE[right.place]} with {shown[1]}."
    )
    return [
        ("Compare the two subimages." + _SUFFIX_LONG[0], told),
        ("Which subimage was taken indoors?" + _SUFFIX_SHORT[0], "The right one"),
        ("Do both subimages show the same place?" + _SUFFIX_JUDGE[0], "No"),
    ]
