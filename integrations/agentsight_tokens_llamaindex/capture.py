"""Turns LlamaIndex's spans and events into calls on the meter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentsight_tokens.faults import guarded
from agentsight_tokens.meter import Meter
from agentsight_tokens.scope import current_attribution

from .calls import CallTable
from .generators import GeneratorTable, Origin, generator_in
from .providers import model_of, provider_of
from .spans import Span, SpanTable

__all__ = ["Capture"]

_PASSED_ON = frozenset({"structured_llm"})
"""Models that only pass on what another one answers, with the answer's own `usage` fields."""


class Capture:
    """The one place where spans, events and taps meet."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.spans = SpanTable()
        self.calls = CallTable(meter)
        self.generators = GeneratorTable()

    def event_actions(self) -> dict[str, Callable[[Any], None]]:
        """Return what to do at which event."""
        return {
            "LLMChatStartEvent": self.start_chat,
            "LLMCompletionStartEvent": self.start_completion,
            "LLMChatInProgressEvent": self.progress,
            "LLMCompletionInProgressEvent": self.progress,
            "LLMChatEndEvent": self.end,
            "LLMCompletionEndEvent": self.end,
            "ExceptionEvent": self.fail,
        }

    @guarded
    def start_chat(self, event: Any) -> None:
        """Begin a chat."""
        self._start(event)

    @guarded
    def start_completion(self, event: Any) -> None:
        """Begin a completion."""
        self._start(event)

    @guarded
    def progress(self, event: Any) -> None:
        """Take a part of a stream."""
        self.calls.observe(event.span_id, event.response)

    @guarded
    def end(self, event: Any) -> None:
        """Finish a call."""
        self.calls.end(event.span_id, event.response)

    @guarded
    def fail(self, event: Any) -> None:
        """Finish a stream that broke or was closed."""
        self.calls.fail(event.span_id, event.exception)

    @guarded
    def enter(self, id_: str, parent_id: str | None, instance: Any, arguments: Any) -> None:
        """Open a span."""
        self.spans.enter(id_, parent_id, instance, arguments)

    @guarded
    def exit(self, id_: str, result: Any) -> None:
        """Close a span; what it returned may go on calling models later."""
        span = self.spans.leave(id_)
        if span is None:
            return
        generator = generator_in(result)
        call = self.calls.get(id_)
        if generator is None:
            if call is not None:  # the class fired no end event
                self.calls.end(id_, result)
            return
        if call is None:
            self.generators.add(generator, self.origin(span), None)
            return
        call.is_stream = True
        origin = Origin(call.open.scope, self.origin(span).recorder, span)
        self.generators.add(generator, origin, lambda: self.gone(id_))

    @guarded
    def drop(self, id_: str, error: BaseException | None) -> None:
        """Close a span that raised."""
        self.spans.leave(id_)
        self.calls.fail(id_, error or RuntimeError("the span was dropped"))

    @guarded
    def gone(self, id_: str) -> None:
        """Finish a stream that the program let go of."""
        self.calls.abandon(id_)

    def origin(self, span: Span) -> Origin:
        """Return who causes what this span does."""
        running = self.generators.running()
        if running is not None:
            return running._replace(span=span)
        attribution = current_attribution()
        recorder: Any = attribution.owner
        if recorder is None:
            recorder = self._meter.default_recorder
        return Origin(attribution.scope, recorder, span)

    def clear(self) -> None:
        """Forget everything that is under way."""
        self.spans.clear()
        self.calls.clear()
        self.generators.clear()

    def _start(self, event: Any) -> None:
        described = event.model_dict
        if described.get("class_name") in _PASSED_ON:
            return
        span = self.spans.get(event.span_id)
        if span is None:  # begun before the handler was installed, or outside of any span
            return
        self.calls.begin(
            span,
            self.generators.running(),
            model=model_of(described),
            provider=provider_of(type(span.instance)),
            tags=event.tags or None,
        )
