"""Caller: what is done before and after each call, whoever sends it."""

from __future__ import annotations

import asyncio
from typing import Any, Literal, NamedTuple

from agentsight_tokens.budgets.guard import BudgetGuard
from agentsight_tokens.context import ContextMonitor
from agentsight_tokens.faults import contained
from agentsight_tokens.meter import Recorder
from agentsight_tokens.scope import ScopeEntry, current_attribution
from agentsight_tokens.usage import Operation

from .arguments import CallArguments
from .outcome import UsageReader
from .routing import Route, RouteRequest
from .run import Run, Witness
from .spans import SpanWriter
from .surroundings import Surroundings

__all__ = ["CallFacts", "Caller", "Enforcement"]

Enforcement = Literal["track", "warn", "enforce"]
"""Whether budgets only count, or also warn, or stop calls."""


class CallFacts(NamedTuple):
    """What is said of all calls of a function, besides their arguments."""

    model: str | None = None
    provider: str | None = None
    operation: Operation = "chat"


class Caller:
    """
    Prepares calls: compresses their messages, chooses their model, reserves their budget.

    Args:
        tracker: What counts.
        guard: Holds budgets; None without any.
        context: Compresses messages; None leaves them as they are.
        enforcement: What happens at a limit.
        route: Chooses models; None leaves them as they are.
        spans: Writes what was used to the span in force; None without any.
    """

    def __init__(  # each is a part of its own
        self,
        tracker: Recorder,
        *,
        guard: BudgetGuard | None,
        context: ContextMonitor | None,
        enforcement: Enforcement,
        route: Route | None,
        spans: SpanWriter | None,
    ) -> None:
        self._tracker = tracker
        self._guard = guard
        self._context = context
        self._enforcement = enforcement
        self._route = route
        self._spans = spans

    def run(self, arguments: CallArguments, reader: UsageReader | None = None) -> Run:
        """Return the run of a call that is about to begin."""
        return Run(self._tracker, arguments, guard=self._guard, reader=reader, spans=self._spans)

    def surroundings(self, fields: dict[str, object]) -> ScopeEntry:
        """Return the scope of what is called before a call is sent, such as for a summary."""
        around = current_attribution().owner
        outer = around.run if isinstance(around, Witness) else None
        tracker = around if isinstance(around, (Witness, Surroundings)) else self._tracker
        enforces = self._enforcement == "enforce"
        return ScopeEntry(
            Surroundings(tracker, self._guard, enforces=enforces, outer=outer), fields
        )

    def compress(self, run: Run, facts: CallFacts) -> None:
        """Compress the messages of a call if they fill too much of the window."""
        model = run.arguments.model or facts.model
        with contained("compressing a context"):
            messages = self.crowded(run.arguments.messages, model)
            if messages is not None and self._context is not None:
                run.take_compressed(self._context.compress(messages, model=model))

    async def acompress(self, run: Run, facts: CallFacts) -> None:
        """Do what `compress` does, and await a summary that comes asynchronously."""
        model = run.arguments.model or facts.model
        with contained("compressing a context"):
            messages = self.crowded(run.arguments.messages, model)
            if messages is not None and self._context is not None:
                run.take_compressed(await self._context.acompress(messages, model=model))

    def prepare(self, run: Run, facts: CallFacts) -> None:
        """
        Begin a call in its scope and hold its budget.

        Raises:
            BudgetExceededError: If a budget does not allow the call and it is enforced.
        """
        self._begin(run, facts)
        run.hold(self._enforcement)

    async def aprepare(self, run: Run, facts: CallFacts) -> None:
        """Do what `prepare` does, and keep the event loop from waiting for a network."""
        self._begin(run, facts)
        if self._guard is not None and self._guard.manager.is_remote:
            await asyncio.to_thread(run.hold, self._enforcement)
        else:
            run.hold(self._enforcement)

    def crowded(self, messages: list[Any] | None, model: str | None) -> list[Any] | None:
        """Return the messages if they fill more of the window than they should."""
        if self._context is None or not messages:
            return None
        report = self._context.inspect(messages, model=model)
        return messages if report.should_compress else None

    def _begin(self, run: Run, facts: CallFacts) -> None:
        with contained("beginning a call"):
            model = run.arguments.model or facts.model
            if self._route is not None and model is not None:
                chosen = self._chosen(model, run)
                if chosen is not None:
                    run.arguments.set_model(chosen)
                    model = chosen
            run.begin(facts.operation, model=model, provider=facts.provider)

    def _chosen(self, model: str, run: Run) -> str | None:
        scope = current_attribution().scope
        status = None if self._guard is None else self._guard.status(scope, model=model)
        return self._route and self._route(RouteRequest(model, run.arguments.prompt, status))
