"""The wire of OpenAI's chat and legacy completions, and of what all its endpoints share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any, Final

from msgspec.structs import replace

from agentsight_tokens.usage import TokenUsage

from .answer import Answer, Draft, Piece, event, scaled, whole

__all__ = ["billable", "chat", "completion", "error_body", "models", "service_tier"]

_ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_exceeded",
}

_Choice = dict[str, Any]


def error_body(status: int, message: str) -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    kind = _ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    code = "rate_limit_exceeded" if status == 429 else None
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def models(draft: Draft) -> Answer:
    """Return the list of models."""
    names = ("gpt-4o", "gpt-4o-mini", "text-embedding-3-small")
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "loopback"} for name in names]
    return Answer(pieces=whole({"object": "list", "data": data}, None))


def billable(usage: TokenUsage) -> TokenUsage:
    """Return a usage without what OpenAI has no field for."""
    return replace(
        usage,
        cache_creation_1h_tokens=0,
        image_input_tokens=0,
        image_output_tokens=0,
        web_search_requests=0,
    )


def service_tier(draft: Draft) -> str:
    """Return the tier that serves a call, as OpenAI names it in its answer."""
    asked = draft.request.body.get("service_tier")
    return draft.reply.service_tier or (asked if asked and asked != "auto" else "default")


def chat(draft: Draft) -> Answer:
    """Return the answer of `/v1/chat/completions`."""
    choices = range(_choice_count(draft))
    usage = scaled(billable(draft.reply.usage()), len(choices), 1)
    head = _head(draft, "chatcmpl-", "chat.completion")
    reason = draft.reply.finish_reason or ("tool_calls" if draft.reply.tool_calls else "stop")
    if not draft.request.is_stream:
        content = draft.reply.content or None
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if draft.reply.tool_calls:
            message["tool_calls"] = _tool_calls(draft)
        finished = [
            {"index": i, "message": message, "logprobs": None, "finish_reason": reason}
            for i in choices
        ]
        return _answer(draft, usage, head | {"choices": finished})
    head["object"] = "chat.completion.chunk"
    deltas: list[dict[str, Any]] = [{"content": text} for text in draft.reply.content_chunks()]
    deltas += _tool_deltas(draft)
    return _stream_answer(
        draft,
        usage,
        head,
        opening=[_delta(i, {"role": "assistant", "content": ""}) for i in choices],
        steps=[[_delta(i, delta) for i in choices] for delta in deltas],
        closing=[_delta(i, {}, reason) for i in choices],
    )


def completion(draft: Draft) -> Answer:
    """Return the answer of `/v1/completions`; each prompt of a list bills its own usage."""
    each = _choice_count(draft)
    usages = [scaled(billable(reply.usage()), each, 1) for reply in draft.replies]
    usage = reduce(add, usages)
    head = _head(draft, "cmpl-", "text_completion")
    reason = draft.reply.finish_reason or "stop"
    texts = [reply.content for reply in draft.replies for _ in range(each)]
    if not draft.request.is_stream:
        finished = [_text_choice(i, text, reason) for i, text in enumerate(texts)]
        return _answer(draft, usage, head | {"choices": finished})
    chunks = draft.reply.content_chunks()
    return _stream_answer(
        draft,
        usage,
        head,
        opening=[],
        steps=[[_text_choice(i, chunk) for i in range(len(texts))] for chunk in chunks],
        closing=[_text_choice(i, "", reason) for i in range(len(texts))],
    )


def _choice_count(draft: Draft) -> int:
    return int(draft.request.body.get("n") or 1)


def _head(draft: Draft, prefix: str, kind: str) -> dict[str, Any]:
    return {
        "id": draft.response_id(prefix),
        "object": kind,
        "created": draft.created,
        "model": draft.model,
        "service_tier": service_tier(draft),
        "system_fingerprint": "fp_loopback",
    }


def _tool_calls(draft: Draft) -> list[dict[str, Any]]:
    return [
        {
            "id": draft.call_id("call_", i),
            "type": "function",
            "function": {"name": call.name, "arguments": call.json},
        }
        for i, call in enumerate(draft.reply.tool_calls)
    ]


def _tool_deltas(draft: Draft) -> list[dict[str, Any]]:
    """Return two content chunks a tool call: its name, then its arguments."""
    deltas: list[dict[str, Any]] = []
    for i, call in enumerate(_tool_calls(draft)):
        arguments = call["function"]["arguments"]
        named = call | {"index": i, "function": call["function"] | {"arguments": ""}}
        deltas.append({"tool_calls": [named]})
        deltas.append({"tool_calls": [{"index": i, "function": {"arguments": arguments}}]})
    return deltas


def _delta(index: int, delta: dict[str, Any], reason: str | None = None) -> _Choice:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}


def _text_choice(index: int, text: str, reason: str | None = None) -> _Choice:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def _answer(draft: Draft, usage: TokenUsage, body: dict[str, Any]) -> Answer:
    is_told = draft.reply.usage_mode != "never"
    if is_told:
        body["usage"] = _usage_body(usage)
    return Answer(
        pieces=whole(body, usage if is_told else None),
        usage=usage,
        response_id=body["id"],
        service_tier=body["service_tier"],
    )


def _stream_answer(
    draft: Draft,
    usage: TokenUsage,
    head: dict[str, Any],
    *,
    opening: Sequence[_Choice],
    steps: Sequence[Sequence[_Choice]],
    closing: Sequence[_Choice],
) -> Answer:
    mode = draft.reply.usage_mode
    options = draft.request.body.get("stream_options") or {}
    is_asked = bool(options.get("include_usage")) and mode != "never"

    def piece(choices: Sequence[_Choice], told: TokenUsage | None, *, content: bool) -> Piece:
        body = dict(head)
        if told is not None:
            body["usage"] = _usage_body(told)
        elif is_asked:
            body["usage"] = None
        # One choice an event, as the API sends them.
        data = b"".join(event(body | {"choices": [choice]}) for choice in choices)
        return Piece(data, told, content)

    def told_on(step: int) -> TokenUsage | None:
        if mode == "every_chunk":
            return scaled(usage, step, len(steps)) if steps else usage
        last = {"last_content_chunk": len(steps), "second_last_chunk": max(len(steps) - 1, 1)}
        return usage if step == last.get(mode) else None

    pieces = [piece(opening, told_on(0) if steps else None, content=False)] if opening else []
    pieces += [piece(step, told_on(i), content=True) for i, step in enumerate(steps, 1)]
    pieces.append(piece(closing, usage if mode == "every_chunk" else None, content=False))
    if is_asked and mode in ("normal", "every_chunk", "output_only"):
        pieces.append(Piece(event(head | {"choices": [], "usage": _usage_body(usage)}), usage))
    pieces.append(Piece(b"data: [DONE]\n\n"))
    return Answer(
        pieces=tuple(pieces),
        usage=usage,
        response_id=head["id"],
        service_tier=head["service_tier"],
        content_type="text/event-stream; charset=utf-8",
        is_stream=True,
    )


def _usage_body(usage: TokenUsage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_creation_tokens,
            "audio_tokens": usage.audio_input_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.audio_output_tokens,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
