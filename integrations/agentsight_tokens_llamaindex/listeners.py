"""
The handlers that LlamaIndex's dispatcher calls.

The dispatcher swallows what they raise, so a fault is kept from the host twice; ours is there
to count and log it. What they need is in closures, as pydantic looks a private attribute up
more slowly than all the rest takes.
"""

from __future__ import annotations

import inspect
from typing import Any

from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler
from llama_index_instrumentation.span import active_span_id
from llama_index_instrumentation.span.base import BaseSpan
from llama_index_instrumentation.span_handlers import BaseSpanHandler

from .capture import Capture

__all__ = ["active_span_id", "event_listener", "span_listener"]


def event_listener(capture: Capture) -> BaseEventHandler:
    """Return what passes the events that concern a call on; most concern none."""
    actions = capture.event_actions()

    class CaptureEvents(BaseEventHandler):
        @classmethod
        def class_name(cls) -> str:
            return "AgentSightTokensEventHandler"

        def handle(self, event: BaseEvent, **kwargs: Any) -> None:
            action = actions.get(type(event).__name__)
            if action is not None:
                action(event)

    return CaptureEvents()


def span_listener(capture: Capture) -> BaseSpanHandler[BaseSpan]:
    """Return what passes every span on; LlamaIndex's own lists of spans have no bound."""

    class CaptureSpans(BaseSpanHandler[BaseSpan]):
        @classmethod
        def class_name(cls) -> str:
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
            capture.enter(id_, parent_id, instance, bound_args)

        def span_exit(
            self,
            id_: str,
            bound_args: inspect.BoundArguments,
            instance: Any | None = None,
            result: Any | None = None,
            **kwargs: Any,
        ) -> None:
            capture.exit(id_, bound_args, result)

        def span_drop(
            self,
            id_: str,
            bound_args: inspect.BoundArguments,
            instance: Any | None = None,
            err: BaseException | None = None,
            **kwargs: Any,
        ) -> None:
            capture.drop(id_, err)

        def new_span(self, *args: Any, **kwargs: Any) -> None:
            """Make nothing: the spans are not kept here."""

        def prepare_to_exit_span(self, *args: Any, **kwargs: Any) -> None:
            """Close nothing: the spans are not kept here."""

        def prepare_to_drop_span(self, *args: Any, **kwargs: Any) -> None:
            """Close nothing: the spans are not kept here."""

    return CaptureSpans()
