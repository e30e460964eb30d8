"""
The attributes that are read, by what they tell; of several the first that is there counts.

They are those of the OpenTelemetry GenAI conventions (new and deprecated names), OpenInference,
OpenLLMetry, Langfuse, LangSmith, the AI SDK of Vercel and MLflow, as written by
opentelemetry-semantic-conventions 0.66b2, openinference-semantic-conventions 0.1.42 and
opentelemetry-semantic-conventions-ai 0.5.1.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "AGENT",
    "AUDIO_INPUT",
    "AUDIO_OUTPUT",
    "CACHE_READ",
    "CACHE_WRITE",
    "CONVERSATION",
    "EMBEDDED",
    "ENVIRONMENT",
    "FEATURE",
    "INPUT",
    "KNOWN",
    "MODEL",
    "ORGANISATION",
    "OUTPUT",
    "PROVIDER",
    "REASONING",
    "RESPONSE_ID",
    "SERVICE_TIER",
    "SESSION",
    "TAGS",
    "TOTAL",
    "USER",
]

_OF_TRACELOOP: Final = "traceloop.association.properties."
_OF_VERCEL: Final = "ai.telemetry.metadata."

INPUT: Final = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.token_count.prompt",
    "ai.usage.inputTokens",
    "ai.usage.promptTokens",
    "llm.usage.prompt_tokens",
)
OUTPUT: Final = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
    "ai.usage.outputTokens",
    "ai.usage.completionTokens",
    "llm.usage.completion_tokens",
)
TOTAL: Final = (
    "gen_ai.usage.total_tokens",
    "llm.usage.total_tokens",
    "llm.token_count.total",
    "ai.usage.totalTokens",
)
EMBEDDED: Final = ("ai.usage.tokens",)
"""What an embedding took, where it has a name of its own."""
CACHE_READ: Final = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "llm.token_count.prompt_details.cache_read",
    "ai.usage.inputTokenDetails.cacheReadTokens",
    "ai.usage.cachedInputTokens",
    "gen_ai.usage.details.cache_read_tokens",
)
CACHE_WRITE: Final = (
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "llm.token_count.prompt_details.cache_write",
    "ai.usage.inputTokenDetails.cacheWriteTokens",
    "gen_ai.usage.details.cache_write_tokens",
)
REASONING: Final = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "llm.usage.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
    "ai.usage.outputTokenDetails.reasoningTokens",
    "ai.usage.reasoningTokens",
    "gen_ai.usage.details.reasoning_tokens",
)
AUDIO_INPUT: Final = (
    "llm.token_count.prompt_details.audio",
    "gen_ai.usage.details.input_audio_tokens",
)
AUDIO_OUTPUT: Final = (
    "llm.token_count.completion_details.audio",
    "gen_ai.usage.details.output_audio_tokens",
)
MODEL: Final = (
    "gen_ai.response.model",
    "langfuse.observation.model.name",
    "ai.response.model",
    "llm.response.model_name",
    "gen_ai.request.model",
    "llm.model_name",
    "embedding.model_name",
    "ai.model.id",
    "llm.request.model_name",
)
PROVIDER: Final = (
    "gen_ai.provider.name",
    "gen_ai.system",
    "llm.provider",
    "ai.model.provider",
    "llm.system",
)
RESPONSE_ID: Final = ("gen_ai.response.id", "ai.response.id")
CONVERSATION: Final = (
    "gen_ai.conversation.id",
    "conversation.id",
    "session.id",
    "langfuse.session.id",
    f"{_OF_TRACELOOP}conversation_id",
    f"{_OF_TRACELOOP}thread_id",
    f"{_OF_TRACELOOP}session_id",
    "langsmith.metadata.session_id",
    f"{_OF_VERCEL}sessionId",
    "mlflow.trace.session",
)
SESSION: Final = (
    "session.id",
    "langfuse.session.id",
    f"{_OF_TRACELOOP}session_id",
    "langsmith.metadata.session_id",
    f"{_OF_VERCEL}sessionId",
    "mlflow.trace.session",
)
USER: Final = (
    "user.id",
    "langfuse.user.id",
    "gen_ai.user",
    "llm.user",
    f"{_OF_TRACELOOP}user_id",
    "langsmith.metadata.user_id",
    f"{_OF_VERCEL}userId",
    "mlflow.trace.user",
    "enduser.id",
)
ORGANISATION: Final = ("cost.org_id", f"{_OF_TRACELOOP}org_id")
AGENT: Final = ("gen_ai.agent.name", "agent.name", "cost.agent")
FEATURE: Final = (
    "cost.feature",
    "gen_ai.workflow.name",
    "traceloop.workflow.name",
    "ai.telemetry.functionId",
)
SERVICE_TIER: Final = (
    "openai.response.service_tier",
    "gen_ai.openai.response.service_tier",
    "gen_ai.response.service_tier",
)
ENVIRONMENT: Final = (
    "deployment.environment.name",
    "deployment.environment",
    "langfuse.environment",
    "langsmith.metadata.environment",
)
TAGS: Final = ("agentsight.tags", "langfuse.trace.tags", "tag.tags", "langsmith.span.tags")

_OTHERS: Final = (
    "agentsight.record",
    "ai.operationId",
    "ai.response.msToFirstChunk",
    "error.type",
    "gen_ai.operation.name",
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.usage.cost",
    "langfuse.observation.completion_start_time",
    "langfuse.observation.type",
    "langfuse.observation.usage_details",
    "llm.request.type",
    "mlflow.chat.tokenUsage",
    "mlflow.spanType",
    "openinference.span.kind",
    "output.value",
    "traceloop.entity.name",
    "traceloop.span.kind",
)

KNOWN: Final = frozenset(
    name
    for names in (
        *(INPUT, OUTPUT, TOTAL, EMBEDDED, CACHE_READ, CACHE_WRITE, REASONING),
        *(AUDIO_INPUT, AUDIO_OUTPUT, MODEL, PROVIDER, RESPONSE_ID, CONVERSATION, SESSION),
        *(USER, ORGANISATION, AGENT, FEATURE, SERVICE_TIER, ENVIRONMENT, TAGS, _OTHERS),
    )
    for name in names
)
"""Every attribute that is read; of an answer only the id, see `read_response_id`."""
