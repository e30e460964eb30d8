"""Surroundings: the calls that are made before one is sent, such as that of a summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentsight_tokens.budgets.guard import BudgetGuard
from agentsight_tokens.budgets.request import CallGuard, CallRequest
from agentsight_tokens.faults import contained
from agentsight_tokens.meter import Recorder
from agentsight_tokens.usage import UsageRecord

if TYPE_CHECKING:
    from .run import Run

__all__ = ["Surroundings"]


class Surroundings:
    """
    Passes records on to a tracker, and has a middleware's budgets meet their calls.

    Args:
        tracker: What counts.
        budgets: Holds the middleware's budgets; None without any.
        enforces: Whether calls are stopped, rather than only counted.
        outer: The run within which the middleware is called, if there is one.
    """

    def __init__(
        self,
        tracker: Recorder,
        budgets: BudgetGuard | None,
        *,
        enforces: bool,
        outer: Run | None,
    ) -> None:
        others = tracker.guard
        shares = budgets and others and others.manager is budgets.manager
        self._tracker = tracker
        self._outer = outer
        self._adds = budgets
        self.guard: CallGuard | None = others
        """What holds budgets for the calls; a handler asks one only, the other one counts."""
        if shares or others is None:
            self.guard = budgets if enforces else None
            self._adds = None if enforces else budgets

    def receive(self, record: UsageRecord) -> UsageRecord | None:
        """Price, keep and count a record; None when the call was counted before."""
        return self.receive_from(None, record)

    def receive_from(self, run: Run | None, record: UsageRecord) -> UsageRecord | None:
        """Do what `receive` does, with the record of a run, which settles its own budgets."""
        counted = self._tracker.receive(record)
        if counted is None:
            return None
        if self._adds is not None and not (run is not None and run.shares(self._adds)):
            with contained("settling a budget"):
                request = CallRequest(counted.scope, counted.operation, counted.model)
                self._adds.add(request, counted)
        if self._outer is not None and any(
            guard is not None and self._outer.shares(guard) for guard in (self.guard, self._adds)
        ):
            self._outer.settled.add(counted.id)
        return counted
