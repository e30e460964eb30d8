"""Hooks that are told of every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .usage import UsageRecord

__all__ = ["Step", "StepHook", "StepState", "tell"]


class StepState(NamedTuple):
    """What a step hook is told of the whole."""

    context: dict[str, Any]
    """`context["usage"]` holds tokens, input_tokens, output_tokens and cost_usd of the call."""


class Step(NamedTuple):
    """What a step hook is told of one call."""

    step_number: int
    """The number of the call since the tracker began or was reset, from 1."""
    record: UsageRecord


StepHook = Callable[[StepState, Step], object]


def tell(hook: StepHook, step_number: int, record: UsageRecord) -> None:
    """Tell a hook of a call."""
    usage = {
        "tokens": record.total_tokens,
        "input_tokens": record.input_tokens,
        "output_tokens": record.output_tokens,
        "embedding_tokens": record.embedding_tokens,
        "cost_usd": record.cost,
    }
    hook(StepState({"usage": usage}), Step(step_number, record))
