"""Turns LlamaIndex's spans and events into calls on the meter."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from agentsight_tokens.errors import BudgetExceededError
from agentsight_tokens.faults import guarded
from agentsight_tokens.meter import Asked, Meter, OpenCall
from agentsight_tokens.scope import current_attribution
from agentsight_tokens_wire.asked import MOST_OUTPUT, asked_of

from .calls import Call, CallTable
from .embeddings import EmbeddingWatch
from .generators import GeneratorTable, Origin, generator_in
from .providers import model_of, provider_of
from .spans import Span, SpanTable

__all__ = ["Capture"]

_PASSES_ON = "structured_llm"
"""The class that passes on another model's answer, whose own fields may be called `usage`."""


class Capture:
    """The one place where spans, events and taps meet."""

    def __init__(self, meter: Meter, *, with_embeddings: bool) -> None:
        self._meter = meter
        self.spans = SpanTable()
        self.calls = CallTable(meter)
        self.generators = GeneratorTable()
        self.embeddings = EmbeddingWatch(meter, is_on=with_embeddings)
        self.active_span_id: ContextVar[str | None] | None = None
        """LlamaIndex's own variable, once it is imported."""
        self._gone: deque[Call] = deque()

    def event_actions(self) -> dict[str, Callable[[Any], None]]:
        """Return what to do at which event."""
        return {
            "LLMChatStartEvent": self.start,
            "LLMCompletionStartEvent": self.start,
            "LLMChatInProgressEvent": self.progress,
            "LLMCompletionInProgressEvent": self.progress,
            "LLMChatEndEvent": self.end,
            "LLMCompletionEndEvent": self.end,
            "ExceptionEvent": self.fail,
            "EmbeddingStartEvent": self.start_embedding,
            "EmbeddingEndEvent": self.end_embedding,
        }

    @guarded
    def start(self, event: Any) -> None:
        """Begin a call of a model."""
        if self._gone:
            self.settle()
        described = event.model_dict
        # Without a span it began before the handler was installed.
        span = self.spans.get(event.span_id)
        if span is None or described.get("class_name") == _PASSES_ON:
            return
        try:
            self._begin(span, model_of(described), event.tags, lambda: _asked(event, span.instance))
        except BudgetExceededError as refusal:
            span.refusal = refusal

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
    def start_embedding(self, event: Any) -> None:
        """Begin a batch of embeddings."""
        span = self.spans.get(event.span_id)
        if span is not None and span.kind == "embed":
            try:
                self.embeddings.start(span, event.model_dict)
            except BudgetExceededError as refusal:
                span.refusal = refusal

    @guarded
    def end_embedding(self, event: Any) -> None:
        """Finish a batch of embeddings."""
        self.embeddings.end(self.spans.get(event.span_id), event.chunks)

    @guarded
    def enter(self, id_: str, parent_id: str | None, instance: Any, arguments: Any) -> None:
        """Open a span."""
        span = self.spans.enter(id_, parent_id, instance, arguments)
        if span.kind == "embed":
            self.embeddings.enter(span, arguments)

    @guarded
    def exit(self, id_: str, arguments: Any, result: Any) -> None:
        """Close a span; what it returned may go on calling models later."""
        span = self.spans.leave(id_)
        if span is None:
            return
        generator = generator_in(result)
        if generator is not None:
            self._returned(span, generator)
        elif span.kind == "embed":
            self.embeddings.leave(span, arguments)
        elif self.calls.get(id_) is not None or self._begin_untold(span) is not None:
            # What a structured prediction returns is the program's, whatever it is called.
            self.calls.end(id_, None if span.kind == "structured" else result)

    @guarded
    def drop(self, id_: str, error: BaseException | None) -> None:
        """Close a span that raised."""
        span = self.spans.leave(id_)
        self.calls.fail(id_, error or RuntimeError("the span was dropped"))
        if span is not None and span.kind == "embed":
            self.embeddings.fail(span, error)

    def surroundings(self) -> dict[str, Any]:
        """Return what LlamaIndex knows of the embedding that another package's tap counts."""
        span = self.active_span()
        if span is None:
            return {}
        for each in span.line():
            each.has_call = each.has_call or each.kind == "embed"
        return {"agent": span.agent, "tool_name": span.tool}

    @guarded
    def refuse(self) -> None:
        """
        Raise what the start event of the call that is about to be made could not.

        Raises:
            BudgetExceededError: If a budget does not allow the call.
        """
        span = self.active_span()
        if span is not None and span.refusal is not None:
            refusal, span.refusal = span.refusal, None
            raise refusal

    def find_call(self) -> OpenCall | None:
        """Return the call that what begins now belongs to, a request of an SDK for example."""
        # Most of what begins, any framework's, does so where nothing of LlamaIndex is under way.
        return self._find_call() if self.spans or self.generators else None

    @guarded
    def _find_call(self) -> OpenCall | None:
        running = self.generators.running()
        call = self.calls.nearest(running.span) if running is not None else None
        span = self.active_span()
        if call is None and span is not None:
            call = self.calls.nearest(span) or self._begin_untold(span)
        return call.open if call is not None else None

    def active_span(self) -> Span | None:
        """Return the span that is in force here."""
        return self.spans.get(self.active_span_id.get()) if self.active_span_id else None

    @guarded
    def settle(self) -> None:
        """
        Finish the streams that the program let go of.

        The garbage collector may tell of them in the middle of anything, also while a lock
        is held that finishing them would take.
        """
        while self._gone:
            self.calls.abandon(self._gone.popleft())

    def clear(self) -> None:
        """Forget everything that is under way."""
        self.spans.clear()
        self.calls.clear()
        self.generators.clear()
        self._gone.clear()

    def _begin(
        self,
        span: Span,
        model: str | None,
        tags: dict[str, Any] | None,
        asked: Callable[[], Asked] | None = None,
    ) -> Call:
        return self.calls.begin(
            span,
            self.generators.running(),
            model=model or model_of({"model": getattr(span.instance, "model", None)}),
            provider=provider_of(type(span.instance)),
            tags=tags or None,
            asked=asked,
        )

    def _begin_untold(self, span: Span) -> Call | None:
        """Begin the call of a span in which no event told of one, if the span is a model's."""
        if span.has_call or span.kind not in ("structured", "model"):
            return None
        call = self._begin(span, None, None)
        call.open.began = span.began
        return call

    def _returned(self, span: Span, generator: Any) -> None:
        call = self.calls.get(span.id)
        origin = self._origin(span)
        if call is None:
            self.generators.add(generator, origin, None)
            return
        call.is_stream = True
        # What the tags named at the start holds for what the stream calls, too.
        origin = origin._replace(attribution=origin.attribution._replace(scope=call.open.scope))
        self.generators.add(generator, origin, lambda: self._let_go(span.id))

    def _let_go(self, span_id: str) -> None:
        call = self.calls.take(span_id)
        if call is not None:
            self._gone.append(call)

    def _origin(self, span: Span) -> Origin:
        """Return who causes what this span does."""
        running = self.generators.running()
        if running is not None:
            return running._replace(span=span)
        attribution = current_attribution()
        recorder: Any = attribution.owner
        if recorder is None:
            recorder = self._meter.default_recorder
        return Origin(attribution, recorder, span)


def _asked(event: Any, model: Any) -> Asked:
    """Return what a start event says that a model is asked, and what the model itself sets."""
    prompt = event.messages if hasattr(event, "messages") else event.prompt
    # The event's `num_output` is a guess where the model sets no maximum.
    own = {name: getattr(model, name, None) for name in MOST_OUTPUT}
    extra = getattr(model, "additional_kwargs", None)
    return asked_of(prompt, event.additional_kwargs, extra, own)
