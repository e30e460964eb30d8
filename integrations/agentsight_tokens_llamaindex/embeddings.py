"""
Embeddings: the tap on the OpenAI SDK counts what goes through it, the rest is estimated.

LlamaIndex fires an event for each batch, also for one that its cache answered, and the event
tells no usage. A batch below which anything was counted is therefore not counted again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from agentsight_tokens.errors import BudgetExceededError, EncodingUnavailableError
from agentsight_tokens.meter import Asked, Meter, OpenCall
from agentsight_tokens.usage import TokenUsage
from agentsight_tokens_wire.errors import is_unbilled

from .calls import HANDLER
from .providers import model_of, provider_of
from .spans import Span, is_a

__all__ = ["EmbeddingWatch"]

_OPENAI: Final = ("llama_index.embeddings.openai.base", "OpenAIEmbedding")
_CORE: Final = "llama_index.core."
"""The package of the embeddings that call nobody, such as those for tests."""

_BASE: Final = ("llama_index.core.base.embeddings.base", "BaseEmbedding")
_WITHOUT_SPAN: Final = {
    "aget_text_embedding": ("_aget_text_embedding",),
    "get_text_embedding_batch": ("_get_text_embeddings",),
    "aget_text_embedding_batch": ("_aget_text_embedding", "_aget_text_embeddings"),
}
"""What a class may override without a span around it; by default it ends in one that has."""


class EmbeddingWatch:
    """Counts the embeddings that no tap sees."""

    def __init__(self, meter: Meter, *, is_on: bool) -> None:
        self._meter = meter
        self._is_on = is_on
        self._counter: Any = None

    def enter(self, span: Span, arguments: Any) -> None:
        """Begin the call of a span that embeds one text, whatever a cache may hold."""
        for value in arguments.arguments.values():
            if isinstance(value, (str, list)):
                span.texts = [value] if isinstance(value, str) else value
                break
        if span.method.startswith("_") and self._counts(span):
            self._begin(span, {})

    def start(self, span: Span, described: dict[str, Any]) -> None:
        """
        Begin a batch's call, and hold its budgets.

        Raises:
            BudgetExceededError: If a budget does not allow the call.
        """
        span.has_call = False  # what was counted until now belongs to earlier batches
        if self._counts(span):
            size = getattr(span.instance, "embed_batch_size", len(span.texts))
            batch, span.texts = span.texts[:size], span.texts[size:]
            self._begin(span, described, lambda: Asked(batch))

    def end(self, span: Span | None, texts: Sequence[str]) -> None:
        """Finish a batch's call, if nothing below it was counted."""
        if span is None or not span.embeddings:
            return
        call = span.embeddings.pop(0)
        if span.has_call or _has_span_for_each_text(span):  # else the cache answered
            call.drop()
        elif getattr(span.instance, "embeddings_cache", None) is not None:
            # How many of the texts the cache answered is not told.
            self._finish(span, call, None)
        else:
            self._finish(span, call, texts)

    def leave(self, span: Span, arguments: Any) -> None:
        """Finish the call of a span that embedded one text."""
        if span.method.startswith("_") and span.embeddings:
            call = span.embeddings.pop()
            if span.has_call:
                call.drop()
            else:
                texts = [text for text in arguments.arguments.values() if isinstance(text, str)]
                self._finish(span, call, texts)

    def fail(self, span: Span, error: BaseException | None) -> None:
        """Finish the calls of a span that raised."""
        while span.embeddings:
            call = span.embeddings.pop()
            usage = TokenUsage() if error is not None and is_unbilled(error) else None
            if isinstance(error, BudgetExceededError):  # refused before it was sent
                call.drop()
                continue
            # A tap leaves the failure of its request to the call around it.
            if span.has_call and (usage is None or call.inner is None):
                call.drop()
                continue
            _mark(span)
            name = type(error).__name__ if error is not None else None
            call.finish(usage, status="error", error_type=name)

    def _counts(self, span: Span) -> bool:
        """Tell whether a span embeds somewhere, and not through the SDK that is tapped."""
        kind = type(span.instance)
        return self._is_on and not is_a(kind, *_OPENAI) and not kind.__module__.startswith(_CORE)

    def _begin(
        self,
        span: Span,
        described: dict[str, Any],
        asked: Callable[[], Asked] | None = None,
    ) -> None:
        call = self._meter.begin(
            HANDLER,
            "embedding",
            model=model_of(described) or _model_name(span.instance),
            provider=provider_of(type(span.instance)),
            agent=span.agent,
            tool_name=span.tool,
            asked=asked,
        )
        if span.embeddings is None:
            span.embeddings = []
        span.embeddings.append(call)

    def _finish(self, span: Span, call: OpenCall, texts: Sequence[str] | None) -> None:
        _mark(span.parent)
        tokens = None if texts is None else self._estimate(texts)
        if tokens is None:
            call.finish(None)
        else:
            call.finish(TokenUsage(embedding_tokens=tokens), source="estimated")

    def _estimate(self, texts: Sequence[str]) -> int | None:
        # Imported here because most programs embed through a tap.
        from agentsight_tokens.counting import TokenCounter

        if self._counter is None:
            self._counter = TokenCounter()
        counted = 0
        try:
            for text in texts:
                counted += self._counter.count(text)
        except EncodingUnavailableError:
            return None
        return counted


def _has_span_for_each_text(span: Span) -> bool:
    """Tell whether what really embeds below a span has a span of its own."""
    base = getattr(sys.modules.get(_BASE[0]), _BASE[1])
    kind = type(span.instance)
    inner = _WITHOUT_SPAN.get(span.method, ())
    return all(getattr(kind, name) is getattr(base, name) for name in inner)


def _model_name(instance: Any) -> str | None:
    return model_of({"model_name": getattr(instance, "model_name", None)})


def _mark(span: Span | None) -> None:
    for each in span.line() if span is not None else ():
        each.has_call = each.has_call or each.kind == "embed"
