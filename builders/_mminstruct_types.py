"""What kind of instruction a round of MMInstruct is, and which language a row speaks.

The release says neither. Its data engine asked for four kinds and appended to most questions a
sentence that says which answer is wanted, so the kind is read off in this order:

1. ``caption``: the file is one of captions.
2. ``multiple_choice``: the question lists options (``A.``, ``(B)``, ``C、`` …), A and B at least.
3. ``judgement``: the question asks for yes or no by these words (是, 否).
4. ``multiple_choice``: the question asks to pick an option.
5. ``long`` or ``short``: the question's last sentence, if it is no question itself, asks for
   detail, or for brevity.
6. By the answer: ``judgement`` if it is yes or no and little more; ``multiple_choice`` if it is one
   of the letters A to H, alone or before a full stop, bracket or colon; ``short`` up to
   ``SHORT_WORDS`` words (what stands between spaces, and two Chinese signs); else ``long``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ._llava_records import TAG, Record

#: The most words of an answer that is called short.
SHORT_WORDS = 20

#: How much of the rarer language makes a row one of both.
_BOTH_UNITS = 5

#: Only so much of a question is looked at from its end: what is asked for stands there.
_TAIL_CHARS = 2000

_OPTION = re.compile(r"(?:^|[\s,;，；。？?])[(（]?([A-H])(?:[.．、):：）])(?=\s*\S)", re.MULTILINE)
_LETTER = re.compile("[A-H][.．、):：）]")
_QUOTE = "['\"‘’“”「」`]?"
_YES_NO = re.compile(
    rf"\b{_QUOTE}yes{_QUOTE}\s*(?:or|and|/|,)\s*{_QUOTE}no\b"
    rf"|{_QUOTE}是{_QUOTE}\s*(?:还是|或者?|和|、|/)\s*{_QUOTE}(?:否|不是)"
)
_PICK = re.compile(
    r"\b(?:select|choose|pick|make|indicate)\b[^.?!\n]*\b(?:options?|choices?|selection)\b"
    r"|\b(?:which|what) (?:option|choice)\b|\bfrom the (?:\w+ )?(?:options|choices)\b"
    r"|选项|[做作]出[^。？\n]{0,6}选择"
)
_PICK_WORD = re.compile("option|choice|selection|选")
_MARK_SIGNS = ".!?。！？\n"
_MARKS = re.compile(f"[{_MARK_SIGNS}]")
_LONG = re.compile(
    r"\bin (?:\w+ )?(?:detail|depth)\b|\b(?:great|more|much) (?:detail|depth)\b"
    r"|\b(?:detailed|comprehensive|extensive|thorough|full|in-depth|elaborate)\b"
    r"[^.]*\b(?:answers?|repl(?:y|ies)|responses?|explanations?|analysis|accounts?)\b"
    r"|\b(?:answer|reply|response|explanation)\b[^.]*\b(?:detailed|comprehensive|thorough)\b"
    r"|\bas (?:detailed|thorough|comprehensive)(?:ly)? as\b"
    r"|详细|详尽|深入|充分"
)
_SHORT = re.compile(
    r"\bconcise(?:ly|ness)?\b|\bbrevity\b|\bbriefly\b|\bfew words\b|\bone word\b"
    r"|\bsingle (?:word|phrase)\b|\bkeep it (?:short|brief)\b|\bin short\b|\bas brief as\b"
    r"|\b(?:short|brief|succinct)\b[^.]*\b(?:answers?|repl(?:y|ies)|responses?)\b"
    r"|\b(?:answer|reply|response)\b[^.]*\b(?:short|brief)\b"
    r"|简短|简洁|简明|扼要|简要"
)
_SAYS_YES_NO = re.compile(
    r"(?:yes|no)(?:\s*[,.!;:，。！]|\s*$)|(?:是的?|不是的?|否|对的?|不对)(?:\s*[，。！、,.!]|\s*$)",
    re.IGNORECASE,
)
_SAYS_LETTER = re.compile(r"[(（]?[A-H](?:\s*$|\s*[.．、):：）])")
_SIGN = re.compile("[\u4e00-\u9fff]")
_CHINESE = re.compile("[\u3000-\u303f\u4e00-\u9fff\uff00-\uff65]")  # with its punctuation
_WORD = re.compile(r"[^\W\d_\u3040-\u30ff\u3400-\u9fff]+(?:['’][^\W\d_]+)?")

#: A yes or no with more words than this is an answer of its own.
_YES_NO_WORDS = 10


def types_of(record: Record, *, captions: bool) -> tuple[str, ...]:
    """Give the kind of each round of a record, in their order."""
    turns = record.conversations
    first = 1 if turns and turns[0].speaker == "system" else 0
    rounds = (len(turns) - first) // 2
    if captions:
        return ("caption",) * rounds
    return tuple(
        type_of(turns[place].value, turns[place + 1].value)
        for place in range(first, first + 2 * rounds, 2)
    )


def type_of(question: str, answer: str) -> str:
    """Give the kind of one round that is no caption.

    >>> type_of("Is it red? Say yes or no.", "Yes.")
    'judgement'
    >>> type_of("Which colour? A. red B. blue", "B")
    'multiple_choice'
    >>> type_of("What is it? Reply briefly.", "A kite.")
    'short'
    """
    asked = question[-_TAIL_CHARS:].replace(TAG, " ").strip()
    if _LETTER.search(asked) and {"A", "B"} <= set(_OPTION.findall(asked)):
        return "multiple_choice"
    small = asked.lower()  # a regular expression is ten times as slow as `in`
    if ("yes" in small or "是" in small) and _YES_NO.search(small):
        return "judgement"
    if _PICK_WORD.search(small) and _PICK.search(small):
        return "multiple_choice"
    if not small.endswith(("?", "？")):
        last = _last_sentence(small)
        if _SHORT.search(last):
            return "short"
        if _LONG.search(last):
            return "long"
    return _by_answer(answer.strip())


def languages_of(texts: Sequence[str]) -> tuple[str, ...]:
    """Give the languages of a row, that of most of it first: ``en``, ``zh``.

    A Chinese sign counts as much as an English word; the rarer language is named where it has at
    least five of them, so that a quoted sign or an abbreviation makes no row one of both.

    >>> languages_of(["What is written?", "It says 红."])
    ('en',)
    >>> languages_of(["Please describe the picture to me.", "一个红色的正方形和一个圆。"])
    ('zh', 'en')
    """
    foreign = [text for text in texts if not text.isascii()]
    signs = sum(len(_SIGN.findall(text)) for text in foreign)
    if not signs:
        return ("en",)
    words = sum(len(_WORD.findall(text.replace(TAG, " "))) for text in texts)
    if signs >= words:
        return ("zh", "en") if words >= _BOTH_UNITS else ("zh",)
    return ("en", "zh") if signs >= _BOTH_UNITS else ("en",)


def _last_sentence(text: str) -> str:
    """The last sentence without its mark; the whole text where no mark stands in it."""
    return _MARKS.split(text[-300:].rstrip(_MARK_SIGNS))[-1]


def _by_answer(answer: str) -> str:
    if _SAYS_LETTER.match(answer):
        return "multiple_choice"
    if len(answer) > 2000:  # no need to count
        return "long"
    words = float(len(answer.split()))
    if not answer.isascii():
        words = len(_CHINESE.sub(" ", answer).split()) + len(_SIGN.findall(answer)) / 2
    if words <= _YES_NO_WORDS and _SAYS_YES_NO.match(answer):
        return "judgement"
    return "short" if words <= SHORT_WORDS else "long"
