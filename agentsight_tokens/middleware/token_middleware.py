"""TokenMiddleware: any callable, counted, budgeted and kept in its context."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar, overload

from agentsight_tokens.attributes import SemanticConvention
from agentsight_tokens.budgets import Budget, BudgetManager
from agentsight_tokens.budgets.configured import configured_manager
from agentsight_tokens.budgets.guard import BudgetGuard
from agentsight_tokens.config import TokenConfig
from agentsight_tokens.context import ContextMonitor
from agentsight_tokens.ids import time_ordered_id
from agentsight_tokens.tracker import ConversationTracker
from agentsight_tokens.usage import Operation, Scope

from .arguments import CallArguments, signature_of
from .caller import Caller, CallFacts, Enforcement
from .outcome import UsageReader
from .routing import Route
from .run import Run
from .spans import SpanWriter
from .streams import (
    AsyncStream,
    AsyncStreamManager,
    Stream,
    StreamManager,
    is_async_stream,
    is_stream,
    is_stream_manager,
)

__all__ = ["TokenMiddleware"]

_F = TypeVar("_F", bound=Callable[..., Any])


class Wrapping(NamedTuple):
    """How one function is wrapped."""

    signature: inspect.Signature | None
    facts: CallFacts
    prompt: str | None
    max_output: str | None
    usage: UsageReader | None
    scope: dict[str, object]


class TokenMiddleware:
    """
    Counts the calls of a callable, holds budgets for them and compresses their context.

    Args:
        tracker: Where calls are counted; a tracker of its own when None.
        budgets: A manager, or a budget of all calls together, kept in this process's memory; the
            tracker's own when None.
        context: Compresses messages that fill its window beyond its threshold.
        enforcement: `track` only counts, `warn` logs what would be stopped, `enforce` stops it.
        route: Chooses the model of each call, for example by what is left of a budget.
        output_tokens: What `budgets` hold for the output of a call that sets no maximum.
        spans: Writes what each call used to the OpenTelemetry span in which it was made, by the
            names of the `seed`, of the `genai` conventions or of `both`.

    Raises:
        ImportError: If there are to be spans and opentelemetry is not installed.
    """

    def __init__(  # noqa: PLR0913  # each is a part of its own
        self,
        tracker: ConversationTracker | None = None,
        *,
        budgets: BudgetManager | Budget | None = None,
        context: ContextMonitor | None = None,
        enforcement: Enforcement = "enforce",
        route: Route | None = None,
        output_tokens: int | None = None,
        spans: SemanticConvention | None = None,
    ) -> None:
        if enforcement not in ("track", "warn", "enforce"):
            raise ValueError(f"enforcement is track, warn or enforce, not {enforcement!r}")
        self.tracker = tracker or ConversationTracker()
        guard = self.tracker.guard
        if budgets is not None:
            guard = _guard_of(budgets, output_tokens)
        self.budgets = None if guard is None else guard.manager
        self.context = context
        self._caller = Caller(
            self.tracker,
            guard=guard,
            context=context,
            enforcement=enforcement,
            route=route,
            spans=None if spans is None else _span_writer(spans, self.tracker),
        )

    @classmethod
    def from_config(
        cls,
        config: TokenConfig | Mapping[str, Any] | str | None = None,
        *,
        tracker: ConversationTracker | None = None,
        enforcement: Enforcement = "enforce",
        route: Route | None = None,
        spans: SemanticConvention | None = None,
    ) -> TokenMiddleware:
        """
        Return the middleware that a configuration asks for.

        Args:
            config: A configuration, its `to_dict()`, the name of a preset, or None for the
                preset of the environment in which this runs.
            tracker: Where calls are counted; one of this configuration when None.
            enforcement: `track` and `warn` are for the first phases of a migration.
            route: Chooses the model of each call.
            spans: Whose names the attributes have that are written to spans.

        Raises:
            ConfigurationError: If it cannot be read.
        """
        if config is None:
            config = TokenConfig.detected()
        elif isinstance(config, str):
            config = TokenConfig.preset(config)
        elif not isinstance(config, TokenConfig):
            config = TokenConfig.from_dict(config)
        threshold = config.compression_threshold
        return cls(
            tracker or ConversationTracker(config=config),  # and its budgets
            budgets=configured_manager(config) if tracker else None,
            context=ContextMonitor(threshold=threshold) if config.compress_context else None,
            enforcement=enforcement,
            route=route,
            output_tokens=config.budget_output_tokens,
            spans=spans,
        )

    @overload
    def wrap(self, function: _F, **options: Any) -> _F: ...

    @overload
    def wrap(self, function: None = None, **options: Any) -> Callable[[_F], _F]: ...

    def wrap(  # noqa: PLR0913  # each is a fact that only the caller knows
        self,
        function: Callable[..., Any] | None = None,
        *,
        model: str | None = None,
        provider: str | None = None,
        operation: Operation = "chat",
        prompt: str | None = None,
        max_output: str | None = None,
        usage: UsageReader | None = None,
        **scope: object,
    ) -> Any:
        """
        Return a function that does what the given one does, counted and within its budgets.

        Functions, coroutine functions, generators and asynchronous generators stay what they
        are; streams that a function returns are counted to their end. Without a function, a
        decorator is returned.

        Args:
            function: What sends the call to a model.
            model: The model, where the function's arguments do not name it.
            provider: Who serves it.
            operation: What the call does.
            prompt: The parameter that holds the messages or the text, where its name does not
                tell.
            max_output: The parameter that limits the output, where its name does not tell; with
                one, a budget that clamps can grant less.
            usage: Reads what the function's answers say that they used, where they are of no
                provider's shape.
            **scope: Scope fields of its calls: agent, feature, user_id, org_id, session_id,
                conversation_id, tags.

        Raises:
            InvalidScopeError: For a field that no scope has.
        """
        if function is None:
            return lambda function: self.wrap(
                function,
                model=model,
                provider=provider,
                operation=operation,
                prompt=prompt,
                max_output=max_output,
                usage=usage,
                **scope,
            )
        Scope().replace(**scope)
        facts = CallFacts(model or _model_of(function), provider, operation)
        wrapping = Wrapping(signature_of(function), facts, prompt, max_output, usage, dict(scope))
        if _is_asynchronous(function):

            @functools.wraps(function)
            async def acall(*args: Any, **kwargs: Any) -> Any:
                return await self._acall(function, wrapping, args, kwargs)

            return acall

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._call(function, wrapping, args, kwargs)

        return call

    def langchain_agent(self) -> Any:
        """
        Return the middleware for `langchain.agents.create_agent(..., middleware=[...])`.

        Raises:
            ImportError: If langchain is not installed.
        """
        from .agent import agent_middleware

        return agent_middleware(self._caller, self.context)

    def _call(self, function: Callable[..., Any], wrapping: Wrapping, *sent: Any) -> Any:
        run = self._run(wrapping, *sent)
        with self._caller.surroundings(wrapping.scope):
            self._caller.compress(run, wrapping.facts)
        try:
            with run.scope(wrapping.scope):
                self._caller.prepare(run, wrapping.facts)
                answer = function(*run.arguments.args, **run.arguments.kwargs)
        except BaseException as error:
            run.fail(error)
            raise
        if inspect.isawaitable(answer):
            return _awaited(run, answer, wrapping.scope)
        return _returned(run, answer, wrapping.scope)

    async def _acall(self, function: Callable[..., Any], wrapping: Wrapping, *sent: Any) -> Any:
        run = self._run(wrapping, *sent)
        with self._caller.surroundings(wrapping.scope):
            await self._caller.acompress(run, wrapping.facts)
        try:
            with run.scope(wrapping.scope):
                await self._caller.aprepare(run, wrapping.facts)
                answer = await function(*run.arguments.args, **run.arguments.kwargs)
        except BaseException as error:
            run.fail(error)
            raise
        return _returned(run, answer, wrapping.scope)

    def _run(self, wrapping: Wrapping, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
        arguments = CallArguments(
            wrapping.signature,
            args,
            kwargs,
            prompt_name=wrapping.prompt,
            output_name=wrapping.max_output,
        )
        return self._caller.run(arguments, wrapping.usage)


def _guard_of(budgets: BudgetManager | Budget, output_tokens: int | None) -> BudgetGuard:
    if isinstance(budgets, Budget):
        manager = BudgetManager()
        manager.set_budget(budgets)
        budgets = manager
    # Calls that name no session still have one, and not that of another process.
    return BudgetGuard(budgets, output_tokens=output_tokens, session_id=time_ordered_id())


def _span_writer(spans: SemanticConvention, tracker: ConversationTracker) -> SpanWriter:
    # Ids that the tracker has hashed already are not hashed again.
    return SpanWriter(spans, hash_user_id=str if tracker.config.hash_user_ids else None)


async def _awaited(run: Run, answer: Awaitable[Any], scope: dict[str, object]) -> Any:
    try:
        with run.scope(scope):
            answer = await answer
    except BaseException as error:
        run.fail(error)
        raise
    return _returned(run, answer, scope)


def _returned(run: Run, answer: Any, scope: dict[str, object]) -> Any:
    """Return an answer whose run has ended, or a stream that will end it."""
    if is_stream_manager(answer):
        kind = AsyncStreamManager if hasattr(answer, "__aenter__") else StreamManager
        return kind(run, answer, scope)
    if is_stream(answer):
        return Stream(run, answer, scope)
    if is_async_stream(answer):
        return AsyncStream(run, answer, scope)
    run.end(answer)
    return answer


def _model_of(function: Callable[..., Any]) -> str | None:
    """Return the model of a method of a framework's model."""
    owner = getattr(function, "__self__", None)
    names = (getattr(owner, field, None) for field in ("model_name", "model"))
    return next((name for name in names if isinstance(name, str)), None)


def _is_asynchronous(function: Callable[..., Any]) -> bool:
    """Tell whether a function's answer is awaited; OpenAI's SDK wraps its coroutines."""
    if inspect.iscoroutinefunction(function):
        return True
    owner = type(getattr(function, "__self__", None)).__name__
    return owner.startswith("Async") and inspect.iscoroutinefunction(inspect.unwrap(function))
