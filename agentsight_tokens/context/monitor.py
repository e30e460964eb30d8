"""ContextMonitor: how full a model's context window is, and how it is made to fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import msgspec

from agentsight_tokens.counting import TokenCounter
from agentsight_tokens.faults import contained
from agentsight_tokens.pricing import CostEstimator

from .compression import STRATEGIES, CompressionResult, Conversation, Job, Strategy
from .messages import ReadMessage, tokens_of
from .summaries import asummary_of, summary_of

__all__ = ["ContextMonitor", "ContextReport", "Urgency", "auto_compress_context"]

Urgency = Literal["none", "low", "medium", "high", "critical"]
_URGENCIES: Final[tuple[tuple[float, Urgency], ...]] = (
    (0.95, "critical"),
    (0.85, "high"),
    (0.75, "medium"),
    (0.65, "low"),
)
_TARGETS: Final[dict[Urgency, float]] = {
    "none": 0.85,
    "low": 0.85,
    "medium": 0.80,
    "high": 0.75,
    "critical": 0.70,
}
"""Which part of the window a compression leaves full, by urgency."""
_STRATEGY_OF: Final[dict[Urgency, Strategy]] = {
    "none": "sliding_window",
    "low": "sliding_window",
    "medium": "message_pruning",
    "high": "smart_truncation",
    "critical": "aggressive_summarization",
}
_FURTHER: Final[dict[Strategy, tuple[Strategy, ...]]] = {
    "sliding_window": ("message_pruning", "smart_truncation"),
    "message_pruning": ("smart_truncation", "sliding_window"),
    "smart_truncation": ("message_pruning", "sliding_window"),
    "aggressive_summarization": ("message_pruning", "smart_truncation", "sliding_window"),
}
"""What follows a strategy that did not suffice."""
_ADVICE: Final[dict[Urgency, str]] = {
    "none": "nothing needs to be done",
    "low": "drop the oldest turns soon",
    "medium": "shorten what tools answered",
    "high": "shorten long messages now",
    "critical": "summarise the older turns before the next call",
}


class ContextReport(msgspec.Struct, frozen=True, kw_only=True):
    """How full a context window is."""

    model: str | None
    tokens: int
    """The tokens of the messages and tools."""
    messages: int
    max_tokens: int | None
    """The window; None if it is not known."""
    utilization: float | None
    """Tokens as a part of the window; None if the window is not known."""
    urgency: Urgency | None
    """None if the window is not known: then nobody can tell."""
    recommendation: str
    should_compress: bool
    """Whether the monitor's threshold is passed."""
    is_estimate: bool
    """Whether no tokenizer of the model was at hand."""


class ContextMonitor:
    """
    Watches the context of a model.

    Args:
        model: The model; its window is looked up in the catalog of prices.
        max_tokens: The window, where you know better or want less.
        threshold: The part of the window above which a compression is due.
        summarize: Makes summaries, for the strategy that needs them: a function of the old
            messages, or a model with `invoke` (LangChain) or `chat` (LlamaIndex).
        estimator: Knows the windows of models; the bundled catalog when None.

    Raises:
        ValueError: For a window or a threshold that cannot be one.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        max_tokens: int | None = None,
        threshold: float = 0.85,
        summarize: object | None = None,
        estimator: CostEstimator | None = None,
    ) -> None:
        if max_tokens is not None and not max_tokens > 0:
            raise ValueError(f"max_tokens must be above 0, not {max_tokens!r}")
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must lie above 0 and at most at 1, not {threshold!r}")
        self.model = model
        self.threshold = threshold
        self._max_tokens = max_tokens
        self._summarize = summarize
        self._estimator = estimator
        self._counters: dict[str | None, TokenCounter] = {}

    def window_of(self, model: str | None = None) -> int | None:
        """Return the tokens that a model can read; None if that is not known."""
        if self._max_tokens is not None:
            return self._max_tokens
        name = model or self.model
        if name is None:
            return None
        if self._estimator is None:
            self._estimator = CostEstimator()
        match = self._estimator.match(name)
        return None if match is None else match.entry.max_input_tokens

    def inspect(
        self,
        messages: Sequence[Any],
        *,
        model: str | None = None,
        tools: Iterable[Any] = (),
    ) -> ContextReport:
        """
        Return how full the window is with these messages.

        Args:
            messages: Dicts, or messages of LangChain or LlamaIndex.
            model: The model; the monitor's own when not given.
            tools: The definitions of the tools that go with them.

        Raises:
            TypeError: If one is no message.
        """
        name = model or self.model
        counter = self._counter(name)
        overhead = counter.count_messages([], tools=tools)
        tokens = overhead + sum(tokens_of(counter, ReadMessage(m)) for m in messages)
        return self._report(name, tokens, len(messages), is_estimate=counter.is_estimate)

    def compress(
        self,
        messages: Sequence[Any],
        *,
        model: str | None = None,
        strategy: Strategy | Literal["auto"] = "auto",
        target_tokens: int | None = None,
        tools: Iterable[Any] = (),
        summarize: object | None = None,
    ) -> CompressionResult:
        """
        Return the messages, made shorter if they must be.

        Args:
            messages: Dicts, or messages of LangChain or LlamaIndex; they are not changed.
            model: The model; the monitor's own when not given.
            strategy: How; `auto` begins with a summary, if one can be made, else with what fits
                the urgency, and goes on with the others until the target is reached.
            target_tokens: What is to be reached; by default a part of the window, by urgency.
            tools: The definitions of the tools that go with them.
            summarize: Makes the summary, in the place of the monitor's own.

        Raises:
            TypeError: If one is no message.
            ValueError: For an unknown strategy, or one that needs a summary and has none.
        """
        maker = summarize or self._summarize
        _check(strategy, maker)
        job = self._job(messages, model, strategy, target_tokens, tools, maker)
        for old in job.run(can_summarise=maker is not None):
            with contained("summarising a context"):
                job.summary = summary_of(maker, old)
        return job.result()

    async def acompress(  # as in compress
        self,
        messages: Sequence[Any],
        *,
        model: str | None = None,
        strategy: Strategy | Literal["auto"] = "auto",
        target_tokens: int | None = None,
        tools: Iterable[Any] = (),
        summarize: object | None = None,
    ) -> CompressionResult:
        """Do what `compress` does, and await a summary that comes asynchronously."""
        maker = summarize or self._summarize
        _check(strategy, maker)
        job = self._job(messages, model, strategy, target_tokens, tools, maker)
        for old in job.run(can_summarise=maker is not None):
            with contained("summarising a context"):
                job.summary = await asummary_of(maker, old)
        return job.result()

    def _job(
        self,
        messages: Sequence[Any],
        model: str | None,
        strategy: Strategy | Literal["auto"],
        target_tokens: int | None,
        tools: Iterable[Any],
        maker: object | None,
    ) -> Job:
        counter = self._counter(model or self.model)
        conversation = Conversation(
            messages,
            lambda message: tokens_of(counter, message),
            overhead=counter.count_messages([], tools=tools),
        )
        window = self.window_of(model)
        urgency = _urgency(conversation.tokens, window) or "none"
        if target_tokens is None and window is not None:
            target_tokens = int(window * _TARGETS[urgency])
        # Who says how to summarise wants no text cut where a summary would do.
        best = _STRATEGY_OF[urgency] if maker is None else "aggressive_summarization"
        first = best if strategy == "auto" else strategy
        chain = (first, *_FURTHER[first]) if strategy == "auto" else (first,)
        return Job(conversation, list(messages), chain, target_tokens)

    def _report(
        self, model: str | None, tokens: int, messages: int, *, is_estimate: bool
    ) -> ContextReport:
        window = self.window_of(model)
        urgency = _urgency(tokens, window)
        utilization = None if window is None else tokens / window
        if utilization is None or urgency is None:
            advice = f"the window of {model!r} is not known: pass max_tokens"
        else:
            advice = f"{utilization:.0%} of the window is full: {_ADVICE[urgency]}"
        return ContextReport(
            model=model,
            tokens=tokens,
            messages=messages,
            max_tokens=window,
            utilization=utilization,
            urgency=urgency,
            recommendation=advice,
            should_compress=utilization is not None and utilization > self.threshold,
            is_estimate=is_estimate,
        )

    def _counter(self, model: str | None) -> TokenCounter:
        counter = self._counters.get(model)
        if counter is None:
            counter = self._counters[model] = TokenCounter(model=model, fallback="bytes")
        return counter


def auto_compress_context(
    messages: Sequence[Any],
    *,
    model: str | None = None,
    max_tokens: int | None = None,
    threshold: float = 0.85,
    summarize: object | None = None,
) -> list[Any]:
    """
    Return the messages, compressed if they fill more than a part of the model's window.

    Args:
        messages: Dicts, or messages of LangChain or LlamaIndex.
        model: The model, by which tokens are counted and the window is known.
        max_tokens: The window, where you know better or want less.
        threshold: The part of the window above which they are compressed.
        summarize: Makes summaries; see `ContextMonitor`.
    """
    monitor = ContextMonitor(model, max_tokens=max_tokens, threshold=threshold, summarize=summarize)
    if not monitor.inspect(messages).should_compress:
        return list(messages)
    return monitor.compress(messages).messages


def _check(strategy: str, summarize: object | None) -> None:
    if strategy != "auto" and strategy not in STRATEGIES:
        raise ValueError(f"strategy is auto or one of {', '.join(STRATEGIES)}, not {strategy!r}")
    if strategy == "aggressive_summarization" and summarize is None:
        raise ValueError(f"strategy {strategy!r} needs summarize: a function or a model")


def _urgency(tokens: int, window: int | None) -> Urgency | None:
    if window is None:
        return None
    return next((name for part, name in _URGENCIES if tokens >= part * window), "none")
