"""The logger that LiteLLM tells of every call."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from agentsight_tokens.errors import BudgetExceededError
from agentsight_tokens.faults import guarded

from .barrier import Barrier
from .call import Request, request_in_force
from .calls import CallTable
from .refusals import Refusals
from .stream_usage import StreamUsage

__all__ = ["AgentSightUsageLogger"]


class AgentSightUsageLogger(CustomLogger):
    """
    Turns LiteLLM's callbacks into calls on the meter.

    LiteLLM tells loggers apart by the name of their class, so it must be one of our own, and
    passes arguments by the names that its base class gives them.
    """

    def __init__(
        self,
        table: CallTable,
        barrier: Barrier,
        *,
        stream_usage: StreamUsage,
        refusals: Refusals,
        register: Callable[[], None],
    ) -> None:
        super().__init__()
        self._table = table
        self._barrier = barrier
        self._stream_usage = stream_usage
        self._refusals = refusals
        self._register = register

    def __copy__(self) -> AgentSightUsageLogger:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> AgentSightUsageLogger:
        return self

    @guarded
    def log_pre_api_call(self, model: Any, messages: Any, kwargs: dict[str, Any]) -> None:
        """Begin a call, in the context of whoever makes it."""
        self._register()
        self._barrier.settle_streams()
        if _is_mocked(kwargs):
            self._table.nothing_sent(kwargs)
            return
        try:
            call = self._table.begin(kwargs)
        except BudgetExceededError as refusal:  # LiteLLM would swallow it here
            self._refusals.note(kwargs, refusal)
            return
        if call is not None:
            self._stream_usage.ask(kwargs)

    @guarded
    def log_post_api_call(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Note what the provider answered, or what was caught in the place of an answer."""
        call = self._table.get(kwargs)
        raw = kwargs.get("original_response")
        if call is None or isinstance(raw, Coroutine):  # which is still to send the request
            return
        caught = sys.exc_info()[1]
        if caught is not None and caught is not call.before:
            call.error = caught
            return
        call.error, call.is_answered = None, True
        if isinstance(raw, str):
            call.raw = raw if raw.lstrip()[:1] == "{" else None
        elif id(raw) in call.streams:
            # LiteLLM's details would hold the stream that holds them, so one that the program
            # lets go of would never be told to be gone, nor its connection be closed.
            kwargs["original_response"] = weakref.proxy(raw)

    @guarded
    def log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Finish a synchronous call; this is told in another thread, after it has returned."""
        self._table.succeed(kwargs, response_obj)

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Finish an asynchronous call that nothing else has finished."""
        self.log_success_event(kwargs, response_obj, start_time, end_time)

    @guarded
    def log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Finish a call that failed."""
        self._table.fail_attempt(kwargs, kwargs.get("exception"))

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Finish an asynchronous call that failed."""
        self.log_failure_event(kwargs, response_obj, start_time, end_time)

    async def async_pre_call_deployment_hook(
        self, kwargs: dict[str, Any], call_type: Any
    ) -> dict[str, Any] | None:
        """Note whose request this is; its call may begin in another thread."""
        self._note_request(kwargs)
        return None

    async def async_post_call_success_deployment_hook(
        self, request_data: dict[str, Any], response: Any, call_type: Any
    ) -> None:
        """Finish an asynchronous call before it returns; the loop may end right after that."""
        self._finish_inline(request_data, response)

    async def async_post_call_failure_deployment_hook(
        self,
        request_data: Mapping[str, Any],
        exception: Exception,
        call_type: Any,
        fallback_depth: int | None = None,
    ) -> None:
        """Finish an attempt that failed; LiteLLM tells the failure event of a call but once."""
        self._fail_inline(request_data, exception)

    @guarded
    def _note_request(self, kwargs: Mapping[str, Any]) -> None:
        logging = kwargs.get("litellm_logging_obj")
        request_in_force.set(Request(getattr(logging, "litellm_call_id", None)))

    @guarded
    def _finish_inline(self, request_data: Mapping[str, Any], response: Any) -> None:
        details = _details_of(request_data)
        if details is not None:
            self._table.succeed(details, response)

    @guarded
    def _fail_inline(self, request_data: Mapping[str, Any], exception: Exception) -> None:
        details = _details_of(request_data)
        if details is not None:
            # What LiteLLM passes is a copy without its causes.
            self._table.fail_attempt(details, sys.exc_info()[1] or exception)


def _details_of(request_data: Mapping[str, Any]) -> dict[str, Any] | None:
    logging = request_data.get("litellm_logging_obj")
    details: dict[str, Any] | None = getattr(logging, "model_call_details", None)
    return details


def _is_mocked(details: Mapping[str, Any]) -> bool:
    """Tell whether LiteLLM answers this itself, as with `mock_response`."""
    return not details.get("additional_args") and details.get("api_key") == "mock-key"
