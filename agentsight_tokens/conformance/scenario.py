"""Scenario: one way to call a model, what it is known to use, and what a meter made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from .figures import COUNTED, Figures

__all__ = ["MiscountError", "Result", "Scenario", "Verdict", "judged"]

Verdict = Literal["exact", "unreported", "over", "under", "skipped"]
"""
What a count is worth.

- `exact`: every figure is the expected one.
- `unreported`: no more was counted than could be known, and the rest is said to be missing.
- `over`, `under`: a figure is too high, or too low without a word.
- `skipped`: the scenario could not be run here.
"""


@dataclass(frozen=True)
class Scenario:
    """
    One way to call a model, and what it is known to use.

    The figures are what the provider bills, as far as it tells any client.
    """

    name: str
    act: Callable[[Any], object]
    """Makes the calls, with the clients of its framework."""
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    written: int = 0
    written_1h: int = 0
    reasoning: int = 0
    embedding: int = 0
    calls: int = 1
    unreported: int = 0
    conversation: str = "c"
    """To whom the calls belong; they are made inside "c"."""
    is_told: bool = True
    """Whether a client is told all that the provider bills."""
    only_wire_tells: bool = False
    """Whether the framework keeps from its callbacks what the provider tells."""

    build: Callable[[Any], object] | None = None
    """Makes a client before the meter is switched on."""
    shares: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Prompt and completion of each conversation, where there are several."""

    @property
    def expected(self) -> Figures:
        """The figures that are right."""
        return Figures(
            input_tokens=self.prompt,
            output_tokens=self.completion,
            total_tokens=self.prompt + self.completion,
            embedding_tokens=self.embedding,
            cache_read_tokens=self.cached,
            cache_creation_tokens=self.written,
            cache_creation_1h_tokens=self.written_1h,
            reasoning_tokens=self.reasoning,
            calls=self.calls,
            unreported_calls=self.unreported,
        )


class MiscountError(Exception):
    """
    A scenario has seen for itself that a count is wrong.

    Args:
        expected: The tokens that are right.
        counted: The tokens that the meter told.
    """

    def __init__(self, expected: int, counted: int) -> None:
        super().__init__(f"{counted} of {expected} tokens were sent")
        self.expected = expected
        self.counted = counted


class Result(NamedTuple):
    """What a meter made of a scenario."""

    framework: str
    scenario: str
    verdict: Verdict
    expected: Figures
    counted: Figures | None = None
    """None where the scenario was skipped."""
    reason: str | None = None
    """Why it was skipped, or which figures are wrong."""


def judged(expected: Figures, counted: Figures) -> tuple[Verdict, str | None]:
    """Return the verdict on a count, and what is wrong with it."""
    wrong = [
        (name, getattr(expected, name), getattr(counted, name))
        for name in COUNTED
        if getattr(expected, name) != getattr(counted, name)
    ]
    reason = ", ".join(f"{name} {found} of {right}" for name, right, found in wrong) or None
    if any(found > right for _, right, found in wrong):
        return "over", reason
    missing = counted.unreported_calls - expected.unreported_calls
    if wrong:
        is_said = missing > 0 or counted.partial_calls > 0
        return ("unreported" if is_said else "under"), reason
    if missing < 0:
        return "under", f"{-missing} unreported_calls are not told"
    return ("unreported" if counted.unreported_calls else "exact"), None
