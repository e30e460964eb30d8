"""Langfuse and LangSmith: both take spans over OTLP, and each has its own words for some things."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.usage import UsageRecord

from .connection import checked_endpoint
from .otlp import OTLPSpansDestination, Vendor

__all__ = ["LangSmithDestination", "LangfuseDestination"]

LANGFUSE_HOST: Final = "https://cloud.langfuse.com"
LANGSMITH_ENDPOINT: Final = "https://api.smith.langchain.com"


class LangfuseDestination(OTLPSpansDestination):
    """
    A generation in Langfuse for each call; a session for each session.

    Args:
        public_key: `LANGFUSE_PUBLIC_KEY`.
        secret_key: `LANGFUSE_SECRET_KEY`.
        host: The address of Langfuse.
        estimator: Prices what a cache saved.
        timeout_seconds: How long a delivery may take.
    """

    def __init__(
        self,
        public_key: str,
        secret_key: str,
        *,
        host: str = LANGFUSE_HOST,
        estimator: CostEstimator | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        basic = b64encode(f"{public_key}:{secret_key}".encode()).decode()
        super().__init__(
            checked_endpoint(host, "LANGFUSE_HOST"),
            {"Authorization": f"Basic {basic}", "x-langfuse-ingestion-version": "4"},
            vendor=Vendor("langfuse", "/api/public/otel/v1/traces", langfuse_attributes),
            estimator=estimator,
            timeout_seconds=timeout_seconds,
        )


class LangSmithDestination(OTLPSpansDestination):
    """
    A run in LangSmith for each call; a thread for each session.

    Args:
        api_key: `LANGSMITH_API_KEY`.
        project: `LANGSMITH_PROJECT`.
        endpoint: The address of LangSmith.
        estimator: Prices what a cache saved.
        timeout_seconds: How long a delivery may take.
    """

    def __init__(
        self,
        api_key: str,
        *,
        project: str | None = None,
        endpoint: str = LANGSMITH_ENDPOINT,
        estimator: CostEstimator | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        super().__init__(
            checked_endpoint(endpoint, "LANGSMITH_ENDPOINT"),
            {"x-api-key": api_key, **({"Langsmith-Project": project} if project else {})},
            vendor=Vendor("langsmith", "/otel/v1/traces", langsmith_attributes),
            estimator=estimator,
            timeout_seconds=timeout_seconds,
        )


def langfuse_attributes(
    record: UsageRecord, environment: str | None
) -> Mapping[str, str | Sequence[str]]:
    """
    Return what Langfuse wants to be told of a call.

    Its usage details are disjoint, ours are inclusive, so the cache is taken out of the input.
    https://langfuse.com/integrations/native/opentelemetry, read 2026-11-22.
    """
    scope, usage = record.scope, record.usage
    found: dict[str, str | Sequence[str] | None] = {
        "langfuse.observation.type": "embedding"
        if record.operation == "embedding"
        else "generation",
        "langfuse.observation.model.name": record.model,
        "langfuse.observation.level": None if record.status == "ok" else "ERROR",
        "langfuse.session.id": scope.session_id or scope.conversation_id,
        "langfuse.user.id": scope.user_id,
        "langfuse.trace.tags": scope.tags or None,
        "langfuse.environment": environment,
    }
    if not record.is_unreported:
        cached = usage.cache_read_tokens + usage.cache_creation_tokens
        details = {
            "input": max(usage.input_tokens - cached, 0) + usage.embedding_tokens,
            "input_cached_tokens": usage.cache_read_tokens,
            "input_cache_creation": usage.cache_creation_tokens,
            "output": max(usage.output_tokens - usage.reasoning_tokens, 0),
            "output_reasoning_tokens": usage.reasoning_tokens,
            "total": usage.total_tokens + usage.embedding_tokens,
        }
        found["langfuse.observation.usage_details"] = _json(
            {name: count for name, count in details.items() if count}
        )
    if record.cost is not None:
        found["langfuse.observation.cost_details"] = _json({"total": float(record.cost)})
    return {name: value for name, value in found.items() if value is not None}


def langsmith_attributes(
    record: UsageRecord, environment: str | None
) -> Mapping[str, str | int | float]:
    """
    Return what LangSmith wants to be told of a call.

    https://docs.langchain.com/langsmith/trace-with-opentelemetry, read 2026-11-22.
    """
    scope = record.scope
    found: dict[str, str | int | float | None] = {
        "langsmith.span.kind": "embedding" if record.operation == "embedding" else "llm",
        "langsmith.span.tags": ", ".join(scope.tags) or None,
        "langsmith.metadata.session_id": scope.session_id or scope.conversation_id,
        "langsmith.metadata.user_id": scope.user_id,
        "langsmith.metadata.environment": environment,
        "gen_ai.usage.total_tokens": None if record.is_unreported else record.total_tokens,
    }
    return {name: value for name, value in found.items() if value is not None}


def _json(value: Mapping[str, float]) -> str:
    return msgspec.json.encode(value).decode()
