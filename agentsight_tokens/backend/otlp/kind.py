"""What a span stands for: a call of a model, or something around calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agentsight_tokens.usage import Operation

from .names import INPUT, MODEL, OUTPUT, TOTAL

__all__ = ["operation_of"]

_BY_OPERATION: Final[dict[str, Operation]] = {
    "chat": "chat",
    "generate_content": "chat",
    "multimodal_generation": "chat",
    "text_completion": "completion",
    "completion": "completion",
    "embeddings": "embedding",
    "embedding": "embedding",
    "rerank": "other",
}
_BY_VERCEL: Final[dict[str, Operation]] = {
    "ai.generateText.doGenerate": "chat",
    "ai.streamText.doStream": "chat",
    "ai.generateObject.doGenerate": "chat",
    "ai.streamObject.doStream": "chat",
    "ai.embed.doEmbed": "embedding",
    "ai.embedMany.doEmbed": "embedding",
}
_BY_OPENINFERENCE: Final[dict[str, Operation]] = {"llm": "chat", "embedding": "embedding"}
_BY_LANGFUSE: Final[dict[str, Operation]] = {"generation": "chat", "embedding": "embedding"}
_BY_MLFLOW: Final[dict[str, Operation]] = {
    "llm": "completion",
    "chat_model": "chat",
    "embedding": "embedding",
}
_TELLING: Final[tuple[tuple[str, dict[str, Operation]], ...]] = (
    ("gen_ai.operation.name", _BY_OPERATION),
    ("openinference.span.kind", _BY_OPENINFERENCE),
    ("langfuse.observation.type", _BY_LANGFUSE),
    ("llm.request.type", _BY_OPERATION),
    ("mlflow.spanType", _BY_MLFLOW),
    ("traceloop.span.kind", {}),
)
"""The attributes that tell what a span is, and which of their values are calls of a model."""


def operation_of(attributes: Mapping[str, Any]) -> Operation | None:
    """Return what a call of a model did; None for a span that is no call of a model."""
    if not attributes:
        return None
    vercel = attributes.get("ai.operationId")
    if vercel is not None:
        return _BY_VERCEL.get(str(vercel))
    for name, operations in _TELLING:
        value = attributes.get(name)
        if value is not None:
            # MLflow writes its values as JSON.
            return operations.get(str(value).strip('"').lower())
    has_counts = any(name in attributes for names in (INPUT, OUTPUT, TOTAL) for name in names)
    return "chat" if has_counts and any(name in attributes for name in MODEL) else None
