"""
The handlers that LlamaIndex's dispatcher calls.

The dispatcher swallows what they raise, so a fault is kept from the host twice; ours is there
to count and log it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler
from llama_index_instrumentation.span import active_span_id
from llama_index_instrumentation.span.base import BaseSpan
from llama_index_instrumentation.span_handlers import BaseSpanHandler
from pydantic import PrivateAttr

from .capture import Capture

__all__ = ["CaptureEvents", "CaptureSpans", "active_span_id"]


class CaptureEvents(BaseEventHandler):
    """Passes the events that concern a call on; most concern none."""

    _actions: dict[str, Callable[[Any], None]] = PrivateAttr()

    def __init__(self, capture: Capture) -> None:
        super().__init__()
        self._actions = capture.event_actions()

    @classmethod
    def class_name(cls) -> str:
        """Return the handler's name within LlamaIndex."""
        return "AgentSightTokensEventHandler"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Take an event."""
        action = self._actions.get(type(event).__name__)
        if action is not None:
            action(event)


class CaptureSpans(BaseSpanHandler[BaseSpan]):
    """Passes every span on. Nothing is kept in LlamaIndex's own lists, which have no bound."""

    _capture: Capture = PrivateAttr()

    def __init__(self, capture: Capture) -> None:
        super().__init__()
        self._capture = capture

    @classmethod
    def class_name(cls) -> str:
        """Return the handler's name within LlamaIndex."""
        return "AgentSightTokensSpanHandler"

    def span_enter(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        parent_id: str | None = None,
        tags: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Take a span that begins."""
        self._capture.enter(id_, parent_id, instance, bound_args)

    def span_exit(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        result: Any | None = None,
        **kwargs: Any,
    ) -> None:
        """Take a span that returned."""
        self._capture.exit(id_, bound_args, result)

    def span_drop(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        err: BaseException | None = None,
        **kwargs: Any,
    ) -> None:
        """Take a span that raised."""
        self._capture.drop(id_, err)

    def new_span(self, *args: Any, **kwargs: Any) -> None:
        """Make nothing: the spans are not kept here."""

    def prepare_to_exit_span(self, *args: Any, **kwargs: Any) -> None:
        """Close nothing: the spans are not kept here."""

    def prepare_to_drop_span(self, *args: Any, **kwargs: Any) -> None:
        """Close nothing: the spans are not kept here."""
