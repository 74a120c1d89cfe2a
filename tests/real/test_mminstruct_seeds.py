"""The kinds of MMInstruct's rounds, on the questions and closing sentences of its data engine."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

types = importlib.import_module("vision_ift.builders._mminstruct_types")

KINDS = {
    "judge": "judgement",
    "select": "multiple_choice",
    "longsentence": "long",
    "shortsentence": "short",
}
#: Seeds that themselves ask for detail, or for few words, without a closing sentence.
SEEDS_THAT_SAY_HOW = 9


@pytest.fixture(scope="module")
def engine(real_data: Path) -> Path:
    return real_data / "mminstruct" / "data_engine"


@pytest.fixture(scope="module")
def seeds(engine: Path) -> list[tuple[str, str, str]]:
    """Kind, language and text of every seed question."""
    found = []
    for file in sorted((engine / "all_seed").glob("*.json")):
        if not file.stat().st_size:  # four are empty in the origin too
            continue
        for kind, languages in json.loads(file.read_text("utf-8")).items():
            for language, questions in languages.items():
                found += [(kind, language, question) for question in questions]
    assert len(found) > 800
    return found


def test_every_closing_sentence_says_the_kind(
    engine: Path, seeds: list[tuple[str, str, str]]
) -> None:
    closings = json.loads((engine / "end_prompt.json").read_text("utf-8"))
    wrong = []
    tried = 0
    for asked, languages in closings.items():
        of = {"judge": "judge", "select": "choice"}.get(asked, "sentence")
        for language, sentences in languages.items():
            mine = [text for kind, tongue, text in seeds if (kind, tongue) == (of, language)]
            for sentence in sentences:
                for question in mine:
                    tried += 1
                    found = types.type_of(question + sentence, "it is so")  # which says nothing
                    if found != KINDS[asked]:
                        wrong.append((asked, question + sentence, found))
    assert tried > 10_000
    assert not wrong


def test_answers_say_the_kind_where_no_sentence_does(seeds: list[tuple[str, str, str]]) -> None:
    wrong = set()
    for kind, language, question in seeds:
        english = language == "English"
        answers = {
            "judge": {"judgement": ["Yes", "No.", "Yes, it does."] if english else ["是", "否。"]},
            "choice": {"multiple_choice": ["B", "(B)", "C. blue" if english else "B、蓝"]},
            "sentence": {
                "short": ["A red kite." if english else "红色的风筝"],
                "long": ["It shows a thing and " * 12 if english else "这张图里有很多东西" * 8],
            },
        }[kind]
        for wanted, said in answers.items():
            wrong |= {question for one in said if types.type_of(question, one) != wanted}
    assert len(wrong) == SEEDS_THAT_SAY_HOW, sorted(wrong)


def test_the_language_of_every_closing_sentence(engine: Path) -> None:
    closings = json.loads((engine / "end_prompt.json").read_text("utf-8"))
    for languages in closings.values():
        assert {types.languages_of([text]) for text in languages["English"]} == {("en",)}
        assert {types.languages_of([text]) for text in languages["Chinese"]} == {("zh",)}
