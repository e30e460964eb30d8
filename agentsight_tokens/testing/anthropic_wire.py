"""The wire of Anthropic's Messages API, whose counts are disjoint."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from agentsight_tokens.usage import TokenUsage

from .answer import Answer, Draft, Piece, event, scaled, whole

__all__ = ["count_tokens", "error_body", "messages"]

_ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def error_body(status: int, message: str) -> dict[str, Any]:
    """Return an error in Anthropic's shape."""
    kind = _ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}


def count_tokens(draft: Draft) -> Answer:
    """Return the answer of `/v1/messages/count_tokens`, which calls no model."""
    return Answer(pieces=whole({"input_tokens": draft.reply.input_tokens}, None))


def messages(draft: Draft) -> Answer:
    """Return the answer of `/v1/messages`."""
    usage = _billable(draft.reply.usage())
    is_told = draft.reply.usage_mode != "never"
    reason = draft.reply.finish_reason or ("tool_use" if draft.reply.tool_calls else "end_turn")
    body: dict[str, Any] = {
        "id": draft.response_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": draft.model,
        "content": _blocks(draft),
        "stop_reason": reason,
        "stop_sequence": None,
        # The clients' models require the field, so a usage that is never told is zero.
        "usage": _usage_body(usage if is_told else TokenUsage(), draft),
    }
    is_stream = draft.request.is_stream
    return Answer(
        pieces=_stream(draft, body, usage)
        if is_stream
        else whole(body, usage if is_told else None),
        usage=usage,
        response_id=body["id"],
        service_tier=body["usage"]["service_tier"],
        content_type="text/event-stream; charset=utf-8" if is_stream else "application/json",
        is_stream=is_stream,
    )


def _billable(usage: TokenUsage) -> TokenUsage:
    """Return a usage without what Anthropic has no field for."""
    return replace(
        usage,
        total_tokens=usage.input_tokens + usage.output_tokens,
        audio_input_tokens=0,
        audio_output_tokens=0,
        image_input_tokens=0,
        image_output_tokens=0,
    )


def _blocks(draft: Draft) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if draft.reply.content:
        blocks.append({"type": "text", "text": draft.reply.content})
    for i, call in enumerate(draft.reply.tool_calls):
        used = {"id": draft.call_id("toolu_", i), "name": call.name, "input": dict(call.arguments)}
        blocks.append({"type": "tool_use", **used})
    return blocks


def _stream(draft: Draft, body: dict[str, Any], usage: TokenUsage) -> tuple[Piece, ...]:
    is_told = draft.reply.usage_mode != "never"
    # The first event counts the first output token only.
    begun_usage = body["usage"] | {"output_tokens": min(body["usage"]["output_tokens"], 1)}
    begun_usage["output_tokens_details"] = None
    begun = {"content": [], "stop_reason": None, "usage": begun_usage}
    pieces = [_piece("message_start", message=body | begun), _piece("ping")]
    for index, block in enumerate(body["content"]):
        pieces += _block_pieces(index, block, draft)
    count = max(draft.reply.message_deltas, 1)
    for i in range(1, count + 1):
        is_last = i == count
        reported = scaled(usage, i, count) if is_told else TokenUsage()
        delta = {"stop_reason": body["stop_reason"] if is_last else None, "stop_sequence": None}
        pieces.append(
            _piece(
                "message_delta",
                told=reported if is_told else None,
                delta=delta,
                usage=_delta_usage(reported, draft),
            )
        )
    pieces.append(_piece("message_stop"))
    return tuple(pieces)


def _block_pieces(index: int, block: dict[str, Any], draft: Draft) -> list[Piece]:
    if block["type"] == "text":
        empty = block | {"text": ""}
        deltas = [{"type": "text_delta", "text": text} for text in draft.reply.content_chunks()]
    else:
        empty = block | {"input": {}}
        arguments = next(
            call.json
            for i, call in enumerate(draft.reply.tool_calls)
            if draft.call_id("toolu_", i) == block["id"]
        )
        deltas = [{"type": "input_json_delta", "partial_json": arguments}]
    return [
        _piece("content_block_start", index=index, content_block=empty),
        *(
            _piece("content_block_delta", is_content=True, index=index, delta=delta)
            for delta in deltas
        ),
        _piece("content_block_stop", index=index),
    ]


def _piece(
    kind: str, *, told: TokenUsage | None = None, is_content: bool = False, **fields: Any
) -> Piece:
    return Piece(event({"type": kind, **fields}, kind), told, is_content)


def _delta_usage(usage: TokenUsage, draft: Draft) -> dict[str, Any]:
    body = _usage_body(usage, draft)
    if draft.reply.usage_mode == "output_only":
        return {"output_tokens": body["output_tokens"]}
    return {
        key: value for key, value in body.items() if key not in ("cache_creation", "service_tier")
    }


def _usage_body(usage: TokenUsage, draft: Draft) -> dict[str, Any]:
    cached = usage.cache_read_tokens + usage.cache_creation_tokens
    hour = usage.cache_creation_1h_tokens
    searches = usage.web_search_requests
    return {
        "input_tokens": max(usage.input_tokens - cached, 0),
        "cache_creation_input_tokens": usage.cache_creation_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_creation_tokens - hour,
            "ephemeral_1h_input_tokens": hour,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
        "server_tool_use": {"web_search_requests": searches, "web_fetch_requests": 0}
        if searches
        else None,
        "service_tier": draft.reply.service_tier or "standard",
    }
