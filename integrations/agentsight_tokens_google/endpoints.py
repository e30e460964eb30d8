"""The requests of Google's Gen AI SDK that are billed, and how their answers are read."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from agentsight_tokens.extract import Extracted, gemini, vertex
from agentsight_tokens.extract.reading import count
from agentsight_tokens.usage import TokenUsage
from agentsight_tokens_wire.answers import Answer
from agentsight_tokens_wire.exchange import Endpoint

__all__ = ["endpoint_of", "model_of", "provider_of"]


class _Candidate(msgspec.Struct):
    """What of a candidate bears on the bill."""

    groundingMetadata: Any = None


class _Embedding(msgspec.Struct):
    """What of an embedding bears on the bill: Vertex AI counts each text for itself."""

    statistics: Any = None


class _Prediction(msgspec.Struct):
    embeddings: _Embedding | None = None


_candidates: Final = msgspec.json.Decoder(list[_Candidate])
_embeddings: Final = msgspec.json.Decoder(list[_Embedding])
_predictions: Final = msgspec.json.Decoder(list[_Prediction])


def _generated(answer: Answer, start: Answer | None, provider: str | None) -> Extracted:
    whole = {
        "usageMetadata": answer.usageMetadata,
        "modelVersion": answer.modelVersion,
        "responseId": answer.responseId,
        "candidates": _decoded(_candidates, answer.candidates),
    }
    return vertex(whole) if provider == "vertex_ai" else gemini(whole)


def _embedded(answer: Answer, start: Answer | None, provider: str | None) -> Extracted:
    """
    Return the use of embeddings, which Vertex AI tells for each text and Gemini for all.

    https://ai.google.dev/api/embeddings#UsageMetadata, checked 2026-11-22.
    """
    each = _decoded(_predictions, answer.predictions) or _decoded(_embeddings, answer.embeddings)
    tokens = count(answer.usageMetadata, "promptTokenCount")
    usage = TokenUsage(embedding_tokens=tokens) if tokens else vertex({"predictions": each}).usage
    return Extracted(usage=usage, provider=provider, operation="embedding")


def _decoded(decoder: msgspec.json.Decoder[list[Any]], raw: msgspec.Raw) -> list[Any]:
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError:  # it is not there
        return []


def _tells_usage(answer: Answer) -> bool:
    return bool(answer.usageMetadata)


_GENERATION: Final = Endpoint(
    operation="chat",
    read=_generated,
    tells_usage=_tells_usage,
    first_token=re.compile(rb'"text"\s*:\s*"[^"]|"functionCall"\s*:'),
    end=re.compile(rb'"finishReason"\s*:\s*"'),
    failure=re.compile(rb'^\s*\{\s*"error"\s*:'),
    error_type="APIError",
)
_EMBEDDING: Final = _GENERATION.replace(operation="embedding", read=_embedded)

_BY_METHOD: Final = {
    "generateContent": _GENERATION,
    "streamGenerateContent": _GENERATION,
    "embedContent": _EMBEDDING,
    "batchEmbedContents": _EMBEDDING,
}


def endpoint_of(path: str) -> Endpoint | None:
    """Return the endpoint of a request, if it is billed by its tokens."""
    model, _, method = path.partition("?")[0].rpartition(":")
    if method == "predict" and "embedding" in model:
        return _EMBEDDING
    return _BY_METHOD.get(method)


def model_of(path: str) -> str:
    """Return the model that a request's path names."""
    return path.partition("?")[0].rpartition(":")[0].rpartition("/")[2]


def provider_of(client: Any) -> str:
    """Return who answers a client's requests."""
    return "vertex_ai" if getattr(client, "vertexai", None) else "gemini"
