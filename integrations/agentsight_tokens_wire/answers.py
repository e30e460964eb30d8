"""Answers: what a body or an event on the wire says about its own use."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Answer", "read_json"]


class Answer(msgspec.Struct):
    """
    The fields of an answer that bear on its use, of whatever provider.

    What a model said is by far the most of a body, and is skipped.
    """

    id: Any = None
    type: Any = None
    object: Any = None
    model: Any = None
    status: Any = None
    service_tier: Any = None
    usage: Any = None
    message: Any = None
    """The message of Anthropic's `message_start`."""
    response: Any = None
    """The whole response, in an event of OpenAI's Responses."""
    output: Any = None
    """The items of a response, among which are the searches."""
    result: Any = None
    """What became of a request of an Anthropic batch."""
    custom_id: Any = None
    x_groq: Any = None
    prompt_filter_results: Any = None
    prompt: Any = None
    kv_transfer_params: Any = None
    usageMetadata: Any = None
    modelVersion: Any = None
    responseId: Any = None
    candidates: msgspec.Raw = msgspec.Raw()
    """What Gemini generated, among which are its searches; still to be decoded."""
    predictions: msgspec.Raw = msgspec.Raw()
    """Embeddings of Vertex AI, still to be decoded."""
    embeddings: msgspec.Raw = msgspec.Raw()
    """Embeddings of Gemini, still to be decoded."""


_decoder = msgspec.json.Decoder(Answer)


def read_json(data: bytes) -> Answer | None:
    """Return what a body or an event says; None for what is no JSON object."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
