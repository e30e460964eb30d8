"""Hooks that are told of every call."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from .faults import contained
from .usage import UsageRecord

__all__ = ["Step", "StepHook", "StepListeners", "StepState"]

_logger: Final = logging.getLogger("agentsight_tokens")


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


class StepListeners:
    """The hooks of one tracker, and the log, which hears of every call too."""

    def __init__(self) -> None:
        self._hooks: list[StepHook] = []

    def add(self, hook: StepHook) -> None:
        """Tell a hook of the calls from now on."""
        self._hooks.append(hook)

    def tell(self, step_number: int, record: UsageRecord) -> None:
        """Tell of a call; what a hook raises is reported, not passed on."""
        if _logger.isEnabledFor(logging.INFO):
            cost = "unpriced" if record.cost is None else f"${record.cost:.4f}"
            _logger.info(
                "Request completed: %d tokens, %s",
                record.total_tokens + record.embedding_tokens,
                cost,
            )
        for hook in self._hooks:
            with contained("a step hook"):
                hook(_state_of(record), Step(step_number, record))


def _state_of(record: UsageRecord) -> StepState:
    usage = {
        "tokens": record.total_tokens,
        "input_tokens": record.input_tokens,
        "output_tokens": record.output_tokens,
        "embedding_tokens": record.embedding_tokens,
        "cost_usd": record.cost,
    }
    return StepState({"usage": usage})
