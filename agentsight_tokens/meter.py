"""
The front door for handlers: a call begins, and later it finishes.

A handler knows its framework; the meter knows to whom a call belongs. The scope is bound
when the call begins, because the end may come in another thread, task or conversation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from threading import Lock
from typing import Any, Final, Protocol

from .faults import contained
from .ids import time_ordered_id
from .scope import current_attribution, tool_in_force
from .usage import CallStatus, Operation, Scope, Source, TokenUsage, UsageRecord

__all__ = ["METADATA_PREFIX", "Meter", "OpenCall", "Recorder", "meter"]

METADATA_PREFIX: Final = "agentsight_"
"""Metadata keys of a framework's call that begin with this name a scope field."""

_METADATA_FIELDS: Final = {f"{METADATA_PREFIX}{name}": name for name in Scope.__struct_fields__}


class Recorder(Protocol):
    """What takes finished calls: a tracker."""

    def receive(self, record: UsageRecord) -> UsageRecord | None:
        """Price, keep and count a record; None when the call was counted before."""


class OpenCall:
    """A call that has begun. It finishes once; whatever comes later is ignored."""

    __slots__ = (
        "_began",
        "_first_token_at",
        "_is_finished",
        "_lock",
        "_recorder",
        "handler",
        "model",
        "operation",
        "provider",
        "scope",
        "tool_name",
    )

    def __init__(
        self, recorder: Recorder | None, scope: Scope, *, handler: str, operation: Operation
    ) -> None:
        self._recorder = recorder
        self._began = time.perf_counter()
        self._first_token_at: float | None = None
        self._is_finished = False
        self._lock = Lock()
        self.scope = scope
        self.handler = handler
        self.operation: Operation = operation
        self.model: str | None = None
        self.provider: str | None = None
        self.tool_name: str | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the call was finished or dropped."""
        return self._is_finished

    def first_token(self) -> None:
        """Note the time of the first token; later calls change nothing."""
        if self._first_token_at is None:
            self._first_token_at = time.perf_counter()

    def drop(self) -> None:
        """Forget the call: nothing was sent to a provider, as with a cache hit."""
        self._is_finished = True

    def finish(  # noqa: PLR0913  # each is a fact that only the handler knows
        self,
        usage: TokenUsage | None,
        *,
        model: str | None = None,
        provider: str | None = None,
        status: CallStatus = "ok",
        source: Source = "provider",
        unreported_reason: str | None = None,
        response_id: str | None = None,
        service_tier: str | None = None,
        error_type: str | None = None,
    ) -> UsageRecord | None:
        """
        Record the call, in the scope in which it began.

        Args:
            usage: What the provider said; None is recorded as unreported.
            model: The model that answered; the one asked for when not given.
            provider: Who answered, by the provider's own name.
            status: How the call ended.
            source: Who says what was used.
            unreported_reason: Why there is no usage; `provider_silent` when not given.
            response_id: The provider's id of the response.
            service_tier: The tier that served the call.
            error_type: The class name of the exception that ended the call.
        """
        with self._lock:
            if self._is_finished:
                return None
            self._is_finished = True
        if self._recorder is None:
            return None
        if usage is None:
            unreported_reason = unreported_reason or "provider_silent"
        ended, first = time.perf_counter(), self._first_token_at
        return self._recorder.receive(
            UsageRecord(
                id=time_ordered_id(),
                at=datetime.now(timezone.utc),
                usage=usage or TokenUsage(),
                scope=self.scope,
                model=model or self.model,
                provider=provider or self.provider,
                operation=self.operation,
                status=status,
                source=source,
                unreported_reason=unreported_reason,
                service_tier=service_tier,
                duration_seconds=round(ended - self._began, 6),
                time_to_first_token_seconds=first and round(first - self._began, 6),
                tool_name=self.tool_name,
                handler=self.handler,
                response_id=response_id,
                error_type=error_type,
            )
        )


class Meter:
    """Begins calls for handlers; there is one for each process."""

    def __init__(self) -> None:
        self.default_recorder: Recorder | None = None
        """Where calls go that begin outside any scope: the tracker constructed last."""
        self.barriers: list[Callable[[], None]] = []
        """What waits for a framework's late callbacks; handlers add theirs."""

    def settle(self) -> None:
        """Let the callbacks land that frameworks fire after a call has returned."""
        for barrier in self.barriers:
            with contained("waiting for late callbacks"):
                barrier()

    def begin(  # noqa: PLR0913  # each is a fact that only the handler knows
        self,
        handler: str,
        operation: Operation = "chat",
        *,
        model: str | None = None,
        provider: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        fallback_conversation_id: str | None = None,
        agent: str | None = None,
        tool_name: str | None = None,
    ) -> OpenCall:
        """
        Bind a call that begins now to whoever causes it.

        Args:
            handler: The handler's name.
            operation: What the call does.
            model: The model that is asked for.
            provider: Who is asked.
            metadata: The framework's metadata of the call; `agentsight_conversation_id`,
                `agentsight_user_id` and so on win over the scope in force.
            fallback_conversation_id: The framework's own name of the conversation, taken
                when nothing else names one.
            agent: The framework's name of the agent, taken when the scope names none.
            tool_name: The tool inside which the call is made.
        """
        scope, owner = current_attribution()
        recorder = owner if owner is not None else self.default_recorder
        named = (
            {field: metadata[key] for key, field in _METADATA_FIELDS.items() if key in metadata}
            if metadata
            else {}
        )
        if agent and not scope.agent:
            named.setdefault("agent", agent)
        if named:
            scope = scope.replace(**named)
        if scope.conversation_id is None and fallback_conversation_id:
            scope = scope.replace(conversation_id=fallback_conversation_id)
        call = OpenCall(recorder, scope, handler=handler, operation=operation)  # type: ignore[arg-type]  # owners are recorders
        call.model = model
        call.provider = provider
        call.tool_name = tool_name or tool_in_force()
        return call


meter: Final = Meter()
"""The process's meter."""
