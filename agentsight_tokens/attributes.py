"""Span attributes: what tracing systems are told of calls, agent runs and sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import msgspec

from .context import CompressionResult, ContextReport
from .pricing import CostEstimator
from .summary import UsageSummary
from .usage import TokenUsage, UsageRecord

__all__ = ["AttributeValue", "CallDetails", "Level", "SemanticConvention", "span_attributes"]

AttributeValue = str | bool | int | float | tuple[str, ...]
Level = Literal["call", "agent", "session"]
SemanticConvention = Literal["seed", "genai", "both"]

_Pairs = Iterator[tuple[str, AttributeValue | None]]

_PROVIDER_NAMES: Final = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""The names that the OpenTelemetry GenAI conventions give providers, where ours differ."""


class CallDetails(NamedTuple):
    """What is known of a call besides its record: nothing of it is stored."""

    requested_model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    """The largest output that was asked for."""
    stop_reason: str | None = None
    """Why the answer ended, as the provider says it."""
    is_streaming: bool | None = None
    chunks: int | None = None
    """How many pieces a stream had."""
    retries: int | None = None
    """How often the call was sent again."""


def span_attributes(  # noqa: PLR0913  # each is a fact that only the caller knows
    usage: TokenUsage | UsageRecord,
    level: Level = "call",
    *,
    semconv: SemanticConvention = "seed",
    estimator: CostEstimator | None = None,
    hash_user_id: Callable[[str], str] | None = None,
    agent_runs: int | None = None,
    turns: int | None = None,
    context: ContextReport | CompressionResult | None = None,
    details: CallDetails | None = None,
    quality_requirement: str | None = None,
    alternative_model: str | None = None,
) -> dict[str, AttributeValue]:
    """
    Return what a span is to say: `span.set_attributes(span_attributes(record))`.

    What is not known is left out: an unknown cost or an unreported count is never 0.

    Args:
        usage: A record of one call, or the sum of a run or session (`tracker.get_usage()`).
        level: What the span stands for.
        semconv: `seed` for `llm.tokens.input` and the like, `genai` for the OpenTelemetry
            GenAI conventions, or `both`.
        estimator: Prices what a cache saved and what an alternative would cost.
        hash_user_id: Replaces the user's id; SHA-256 when None. Ids that the tracker hashes
            need no more: pass `str`.
        agent_runs: How many runs a session had.
        turns: How many turns it had; of a call, the number of the conversation's turn.
        context: How full the window was, or how a compression made the prompt shorter.
        details: What the call asked for, and how its answer ended.
        quality_requirement: What you know the task to need, such as `low`.
        alternative_model: A model that you know to be good enough; recommended if cheaper.

    Raises:
        ValueError: For an unknown level or convention.
    """
    if level not in ("call", "agent", "session"):
        raise ValueError(f"level is call, agent or session, not {level!r}")
    if semconv not in ("seed", "genai", "both"):
        raise ValueError(f"semconv is seed, genai or both, not {semconv!r}")
    prices = estimator or _default_estimator()
    is_unreported = isinstance(usage, UsageRecord) and usage.is_unreported
    pairs: list[tuple[str, AttributeValue | None]] = []
    if semconv != "genai":
        pairs += _seed_sums(usage, level)
        pairs += _session(usage, agent_runs, turns) if level == "session" else ()
        if level == "call":
            pairs += () if is_unreported else _seed_counts(_counts(usage))
            pairs += _window(context) if isinstance(context, ContextReport) else ()
            pairs += _compression(context) if isinstance(context, CompressionResult) else ()
            pairs += _seed_details(details) if details else ()
            pairs += (
                ("conversation.turn_number", turns),
                ("model.quality_requirement", quality_requirement),
            )
        if isinstance(usage, UsageRecord):
            pairs += _seed_call(usage, prices)
            pairs += _attribution(usage, hash_user_id or _sha256)
            pairs += _downgrade(usage, prices, alternative_model)
    if semconv != "seed":
        pairs += _genai_call(usage) if isinstance(usage, UsageRecord) else ()
        pairs += () if is_unreported else _genai_usage(_counts(usage))
        pairs += _genai_details(details) if details and level == "call" else ()
    return {name: value for name, value in pairs if value is not None}


def _seed_sums(usage: TokenUsage | UsageRecord, level: Level) -> _Pairs:
    cost = _cost_of(usage)
    if level == "call":
        yield "llm.cost_usd", cost
        return
    calls = usage.request_count if isinstance(usage, UsageSummary) else None
    yield f"{level}.total_tokens", _total(usage)
    yield f"{level}.total_cost_usd", cost
    yield f"{level}.llm_calls", 1 if isinstance(usage, UsageRecord) else calls
    if isinstance(usage, UsageSummary) and not usage.cost_is_complete:
        yield f"{level}.cost_is_complete", False


def _seed_counts(usage: TokenUsage) -> _Pairs:
    yield "llm.tokens.input", usage.input_tokens
    yield "llm.tokens.output", usage.output_tokens
    yield "llm.tokens.total", usage.total_tokens
    yield "llm.tokens.embedding", usage.embedding_tokens or None
    yield "llm.tokens.reasoning", usage.reasoning_tokens or None
    yield "llm.cache.hit", usage.cache_read_tokens > 0
    yield "llm.cache.tokens_saved", usage.cache_read_tokens or None


def _seed_call(record: UsageRecord, prices: CostEstimator) -> _Pairs:
    first = record.time_to_first_token_seconds
    yield "llm.model", record.model
    yield "llm.provider", record.provider
    yield "llm.success", record.status == "ok"
    yield "llm.latency_ms", _milliseconds(record.duration_seconds)
    yield "llm.ttft_ms", _milliseconds(first)
    if first is not None:
        yield "llm.streaming", True
    yield "llm.error.type", record.error_type
    yield "llm.unreported", True if record.is_unreported else None
    yield "llm.cache.cost_saved_usd", _saved_by_cache(record, prices)


def _seed_details(details: CallDetails) -> _Pairs:
    yield "llm.temperature", details.temperature
    yield "llm.max_tokens", details.max_tokens
    yield "llm.stop_reason", details.stop_reason
    yield "llm.chunks", details.chunks
    yield "llm.retry_count", details.retries
    if details.is_streaming is not None:
        yield "llm.streaming", details.is_streaming


def _attribution(record: UsageRecord, hash_user_id: Callable[[str], str]) -> _Pairs:
    scope = record.scope
    yield "cost.feature", scope.feature
    yield "cost.agent", scope.agent
    yield "cost.user_id", None if scope.user_id is None else hash_user_id(scope.user_id)
    yield "cost.org_id", scope.org_id
    yield "conversation.id", scope.conversation_id
    yield "session.id", scope.session_id


def _session(usage: TokenUsage | UsageRecord, agent_runs: int | None, turns: int | None) -> _Pairs:
    yield "session.agent_runs", agent_runs
    if turns:
        yield "session.turns", turns
        yield "session.avg_turn_tokens", round(_total(usage) / turns, 1)


def _window(report: ContextReport) -> _Pairs:
    full = report.utilization
    yield "conversation.context_tokens", report.tokens
    yield "conversation.context_window_pct", None if full is None else round(full * 100, 2)
    yield "context.current_tokens", report.tokens
    yield "context.limit", report.max_tokens


def _compression(result: CompressionResult) -> _Pairs:
    yield "prompt.compression_ratio", result.ratio
    yield "context.current_tokens", result.tokens_after
    yield "context.pruned", bool(result.strategies)
    yield "context.messages_pruned", result.dropped


def _downgrade(record: UsageRecord, prices: CostEstimator, alternative: str | None) -> _Pairs:
    if record.cost is None or alternative is None:
        return
    would_cost = prices.price(record.usage, alternative, at=record.at).total_cost
    if would_cost is not None and would_cost < record.cost:
        yield "model.recommendation", "could_downgrade"
        yield "model.alternative", alternative
        yield "model.alternative_cost_usd", float(would_cost)
        yield "prompt.could_use_haiku", "haiku" in alternative.lower()


def _genai_call(record: UsageRecord) -> _Pairs:
    operation = {"completion": "text_completion", "embedding": "embeddings", "chat": "chat"}
    provider = record.provider
    yield "gen_ai.operation.name", operation.get(record.operation)
    yield "gen_ai.provider.name", _PROVIDER_NAMES.get(provider, provider) if provider else None
    yield "gen_ai.response.model", record.model
    yield "gen_ai.response.id", record.response_id
    yield "gen_ai.conversation.id", record.scope.conversation_id
    yield "gen_ai.agent.name", record.scope.agent
    yield "error.type", record.error_type


def _genai_usage(usage: TokenUsage) -> _Pairs:
    yield "gen_ai.usage.input_tokens", usage.input_tokens + usage.embedding_tokens
    yield "gen_ai.usage.output_tokens", usage.output_tokens
    yield "gen_ai.usage.cache_read.input_tokens", usage.cache_read_tokens or None
    yield "gen_ai.usage.cache_creation.input_tokens", usage.cache_creation_tokens or None
    yield "gen_ai.usage.reasoning.output_tokens", usage.reasoning_tokens or None


def _genai_details(details: CallDetails) -> _Pairs:
    reason = details.stop_reason
    yield "gen_ai.request.model", details.requested_model
    yield "gen_ai.request.temperature", details.temperature
    yield "gen_ai.request.max_tokens", details.max_tokens
    yield "gen_ai.response.finish_reasons", None if reason is None else (reason,)


def _saved_by_cache(record: UsageRecord, prices: CostEstimator) -> float | None:
    """Return what the call would have cost more without the reads from a cache."""
    if not record.usage.cache_read_tokens or record.is_unreported:
        return None
    uncached = msgspec.structs.replace(record.usage, cache_read_tokens=0, cache_read_audio_tokens=0)
    costs = [
        prices.price(
            usage,
            record.model,
            provider=record.provider,
            service_tier=record.service_tier,
            at=record.at,
        ).total_cost
        for usage in (uncached, record.usage)
    ]
    return None if costs[0] is None or costs[1] is None else float(costs[0] - costs[1])


def _counts(usage: TokenUsage | UsageRecord) -> TokenUsage:
    return usage.usage if isinstance(usage, UsageRecord) else usage


def _cost_of(usage: TokenUsage | UsageRecord) -> float | None:
    if isinstance(usage, UsageSummary):
        return float(usage.cost) if usage.cost or usage.cost_is_complete else None
    if isinstance(usage, UsageRecord) and usage.cost is not None:
        return float(usage.cost)
    return None


@lru_cache(maxsize=1)
def _default_estimator() -> CostEstimator:
    return CostEstimator()


def _total(usage: TokenUsage | UsageRecord) -> int:
    return usage.total_tokens + usage.embedding_tokens


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _sha256(text: str) -> str:
    # Imported here: it loads OpenSSL.
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:32]
