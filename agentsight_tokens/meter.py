"""
The front door for handlers: a call begins, and later it finishes.

A handler knows its framework; the meter knows to whom a call belongs. The scope is bound
when the call begins, because the end may come in another thread, task or conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from .budgets.request import Asked, CallRequest
from .errors import BudgetExceededError
from .faults import contained
from .open_call import (
    Hold,
    OpenCall,
    Recorder,
    calls_begun_together,
    nest,
    newest_call,
    surround,
)
from .scope import current_attribution, tool_in_force
from .usage import Operation, Scope

__all__ = ["METADATA_PREFIX", "Asked", "Meter", "OpenCall", "Recorder", "meter"]

METADATA_PREFIX: Final = "agentsight_"
"""Metadata keys of a framework's call that begin with this name a scope field."""

_METADATA_FIELDS: Final = {f"{METADATA_PREFIX}{name}": name for name in Scope.__struct_fields__}
_names_no_field: Final = frozenset(_METADATA_FIELDS).isdisjoint


class Meter:
    """Begins calls for handlers; there is one for each process."""

    def __init__(self) -> None:
        self.default_recorder: Recorder | None = None
        """Where calls go that begin outside any scope: the tracker constructed last."""
        self.barriers: list[Callable[[], None]] = []
        """What waits for a framework's late callbacks; handlers add theirs."""
        self.finders: list[Callable[[], OpenCall | None]] = []
        """What finds the call around one that begins now where its context does not tell, as
        beneath a generator that is drained elsewhere; handlers add theirs."""

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
        surrounds: bool = True,
        asked: Callable[[], Asked] | None = None,
    ) -> OpenCall:
        """
        Bind a call that begins now to whoever causes it, and hold its budgets.

        Args:
            handler: The handler's name.
            operation: What the call does.
            model: The model that is asked for.
            provider: Who is asked.
            metadata: The framework's metadata of the call; `agentsight_conversation_id`,
                `agentsight_user_id` and so on win over the scope in force. One that names what
                no scope can have is reported, and the call goes without it.
            fallback_conversation_id: The framework's own name of the conversation, taken
                when nothing else names one.
            agent: The framework's name of the agent, taken when the scope names none.
            tool_name: The tool inside which the call is made.
            surrounds: Whether the requests that begin in this context are the call's; a
                handler that finds its calls by other means says no.
            asked: Reads what is asked of the model, where there is a budget to hold; None for
                a call that cannot be stopped any more, whose use is only added.

        Raises:
            BudgetExceededError: If a budget does not allow the call.
        """
        attribution = current_attribution()
        scope, owner = attribution
        call = OpenCall(
            owner if owner is not None else self.default_recorder,  # type: ignore[arg-type]  # owners are recorders
            scope,
            handler,
            operation,
            model,
            provider,
            tool_name or tool_in_force(),
            attribution,
        )
        if agent or fallback_conversation_id or (metadata and not _names_no_field(metadata)):
            _attribute(call, metadata or {}, agent, fallback_conversation_id)
        self._nest(call)
        recorder = call.recorder
        if asked is not None and (
            call.outer is not None or (recorder is not None and recorder.guard is not None)
        ):
            self.hold(call, asked)
        if surrounds:
            surround(call)
        return call

    def begin_on_wire(
        self,
        handler: str,
        operation: Operation = "chat",
        *,
        model: str | None = None,
        provider: str | None = None,
        only_inside: bool = False,
        asked: Callable[[], Asked] | None = None,
    ) -> OpenCall | None:
        """
        Begin the call of an SDK that sends the request itself: nothing is nearer the wire.

        Args:
            handler: The handler's name.
            operation: What the call does.
            model: The model that is asked for.
            provider: Who is asked.
            only_inside: Whether calls that no framework's call surrounds do not count.
            asked: Reads what is asked of the model; see `begin`.

        Raises:
            BudgetExceededError: If a budget does not allow the call.
        """
        call = self.begin(handler, operation, model=model, provider=provider, surrounds=False)
        if call.outer is None and only_inside:
            return None
        if asked is not None:
            self.hold(call, asked)
        return call

    def hold(self, call: OpenCall, asked: Callable[[], Asked]) -> None:
        """
        Hold what a request that is about to be sent may use, unless it is held already.

        Args:
            call: The call, which was begun without this.
            asked: Reads what is asked of the model.

        Raises:
            BudgetExceededError: If a budget does not allow the call.
        """
        outermost = call if call.outer is None else call.outermost
        guard = outermost.recorder.guard if outermost.recorder is not None else None
        if guard is None or outermost.hold is not None:
            return
        try:
            with contained("holding a budget"):
                request = CallRequest(
                    outermost.scope,
                    call.operation,
                    call.model or outermost.model,
                    call.provider or outermost.provider,
                    *asked(),
                )
                outermost.hold = Hold(guard, guard.reserve(request))
        except BudgetExceededError:
            call.forget()
            raise

    def _nest(self, call: OpenCall) -> None:
        """Put a call that begins now inside the one around it, if there is one."""
        if newest_call() is not None and nest(call, calls_begun_together(call)):
            return
        found = []
        for find in self.finders:
            each = find()
            if each is not None:
                found.append(each)
        if found and not nest(call, found):
            # Of its own handler, one that another conversation has in between is not its own.
            own = [each for each in found if each.attribution is call.attribution]
            nest(call, own, is_sure=True)


def _attribute(
    call: OpenCall,
    metadata: Mapping[str, Any],
    agent: str | None,
    fallback_conversation_id: str | None,
) -> None:
    """Complete the scope of a call with what its framework says."""
    for key, field in _METADATA_FIELDS.items():
        if key in metadata:
            _name(call, field, metadata[key])
    if not call.scope.agent:
        _name(call, "agent", agent or None)
    if call.scope.conversation_id is None:
        _name(call, "conversation_id", fallback_conversation_id or None)


def _name(call: OpenCall, field: str, value: object) -> None:
    """Name a field of a call's scope; the call is counted, whatever its names are."""
    with contained(f"attribution of a {call.handler} call"):
        call.scope = call.scope.replace(**{field: value})


meter: Final = Meter()
"""The process's meter."""
