"""What a fault test found, as a row of RELIABILITY.md."""

from __future__ import annotations

from typing import NamedTuple


class Control(NamedTuple):
    """A writer that is wrong on purpose, under the same faults.

    Attributes:
        what: What it does.
        trials, failures: How often it was tried, and how often it was caught.
        share: The share of trials in which it must be caught for the test to count.
    """

    what: str
    trials: int
    failures: int
    share: float = 0.5

    @property
    def holds(self) -> bool:
        """Whether the faults bite."""
        return self.failures >= max(1, self.share * self.trials)


class Outcome(NamedTuple):
    """One promise, tried.

    Attributes:
        promise: A sentence.
        tried: How, in a few words.
        trials, failures: How often, and how often it was broken.
        controls: Naive ways that the same trials caught.
        broken: What was seen where it was broken, for people.
    """

    promise: str
    tried: str
    trials: int
    failures: int
    controls: tuple[Control, ...]
    broken: tuple[str, ...] = ()


def demand(outcomes: list[Outcome]) -> None:
    """Fail where a promise was broken, or where its test would not have seen it."""
    assert outcomes
    for one in outcomes:
        assert one.trials > 0, one
        assert one.failures == 0, one
        for control in one.controls:
            assert control.holds, f"this test proves nothing: {control} under: {one.tried}"
