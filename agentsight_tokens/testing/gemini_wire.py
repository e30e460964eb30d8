"""The wire of Gemini's generateContent, whose output leaves the thoughts out."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from agentsight_tokens.usage import TokenUsage

from .answer import Answer, Draft, Piece, dumps, event, scaled, whole

__all__ = ["error_body", "generate_content"]

_ERROR_STATUS: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


def error_body(status: int, message: str) -> dict[str, Any]:
    """Return an error in Google's shape."""
    name = _ERROR_STATUS.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
    return {"error": {"code": status, "message": message, "status": name}}


def generate_content(draft: Draft) -> Answer:
    """Return the answer of `:generateContent` or of `:streamGenerateContent`."""
    usage = _billable(draft.reply.usage())
    mode = draft.reply.usage_mode
    parts = _parts(draft)
    if not draft.request.is_stream:
        told = None if mode == "never" else usage
        body = _body(draft, [part for part, _ in parts], told, is_last=True)
        pieces = whole(body, told)
        return Answer(pieces=pieces, usage=usage, response_id=draft.response_id(""))

    is_sse = "alt=sse" in draft.request.path
    last = len(parts)
    chunks = []
    for i, (part, is_content) in enumerate(parts, 1):
        told = _told(draft, usage, i, last)
        body = _body(draft, [part], told, is_last=i == last)
        data = event(body) if is_sse else (b"[" if i == 1 else b",\r\n") + dumps(body)
        chunks.append(Piece(data, told, is_content))
    if not is_sse:
        chunks.append(Piece(b"]"))
    return Answer(
        pieces=tuple(chunks),
        usage=usage,
        response_id=draft.response_id(""),
        content_type="text/event-stream" if is_sse else "application/json",
        is_stream=True,
    )


def _billable(usage: TokenUsage) -> TokenUsage:
    """Return a usage without what Gemini has no field for."""
    return replace(
        usage, cache_creation_tokens=0, cache_creation_1h_tokens=0, web_search_requests=0
    )


def _parts(draft: Draft) -> list[tuple[dict[str, Any], bool]]:
    """Return (part, whether it is content); a stream has a chunk for each."""
    texts = draft.reply.content_chunks() if draft.request.is_stream else [draft.reply.content]
    parts: list[tuple[dict[str, Any], bool]]
    parts = [({"text": text}, True) for text in texts if text or draft.request.is_stream]
    calls = draft.reply.tool_calls
    parts += [
        ({"functionCall": {"name": call.name, "args": dict(call.arguments)}}, True)
        for call in calls
    ]
    return parts or [({"text": ""}, False)]


def _told(draft: Draft, usage: TokenUsage, chunk: int, last: int) -> TokenUsage | None:
    """Return the cumulative usage that Gemini reports on every chunk of a stream."""
    mode = draft.reply.usage_mode
    if mode == "never":
        return None
    if mode in ("last_content_chunk", "second_last_chunk"):
        place = last if mode == "last_content_chunk" else max(last - 1, 1)
        return usage if chunk == place else None
    return scaled(usage, chunk, last)


def _body(
    draft: Draft, parts: list[dict[str, Any]], told: TokenUsage | None, *, is_last: bool
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if is_last:
        candidate["finishReason"] = draft.reply.finish_reason or "STOP"
    body: dict[str, Any] = {
        "candidates": [candidate],
        "modelVersion": draft.model,
        "responseId": draft.response_id(""),
    }
    if told is not None:
        body["usageMetadata"] = _usage_body(told, draft.reply.tool_use_prompt_tokens)
    return body


def _usage_body(usage: TokenUsage, tool_use_prompt_tokens: int) -> dict[str, Any]:
    prompt = usage.input_tokens - tool_use_prompt_tokens
    candidates = usage.output_tokens - usage.reasoning_tokens
    body: dict[str, Any] = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": candidates,
        "totalTokenCount": usage.total_tokens,
        "promptTokensDetails": _modalities(
            prompt, usage.audio_input_tokens, usage.image_input_tokens
        ),
        "candidatesTokensDetails": _modalities(
            candidates, usage.audio_output_tokens, usage.image_output_tokens
        ),
    }
    # A count of zero is left out, as JSON of Google's leaves out every zero.
    optional = {
        "thoughtsTokenCount": usage.reasoning_tokens,
        "cachedContentTokenCount": usage.cache_read_tokens,
        "toolUsePromptTokenCount": tool_use_prompt_tokens,
    }
    return body | {name: count for name, count in optional.items() if count}


def _modalities(total: int, audio: int, image: int) -> list[dict[str, Any]]:
    counts = {"TEXT": total - audio - image, "AUDIO": audio, "IMAGE": image}
    return [{"modality": name, "tokenCount": count} for name, count in counts.items() if count]
