"""The wire of OpenAI's Responses API."""

from __future__ import annotations

from typing import Any, Final

from agentsight_tokens.usage import TokenUsage

from .answer import Answer, Draft, Piece, event, whole
from .openai_wire import billable, service_tier

__all__ = ["responses"]

_ECHOED: Final[dict[str, Any]] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": False,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


def responses(draft: Draft) -> Answer:
    """Return the answer of `/v1/responses`."""
    usage = billable(draft.reply.usage())
    is_told = draft.reply.usage_mode != "never" and draft.reply.is_billed
    finished = _response(draft, usage if is_told else None)
    if draft.request.is_stream:
        pieces = _Events().stream(draft, finished, usage if is_told else None)
    else:
        pieces = whole(finished, usage if is_told else None)
    return Answer(
        pieces=pieces,
        usage=usage if draft.reply.is_billed else None,
        response_id=finished["id"],
        service_tier=finished["service_tier"],
        content_type="text/event-stream; charset=utf-8"
        if draft.request.is_stream
        else "application/json",
        is_stream=draft.request.is_stream,
    )


def _response(draft: Draft, told: TokenUsage | None) -> dict[str, Any]:
    reply = draft.reply
    body = draft.request.body
    response: dict[str, Any] = {
        "id": draft.response_id("resp_"),
        "object": "response",
        "created_at": draft.created,
        "status": reply.response_status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": draft.model,
        "output": _items(draft),
        "service_tier": service_tier(draft),
        "usage": None if told is None else _usage_body(told),
    }
    for name, default in _ECHOED.items():
        given = body.get(name)
        response[name] = default if given is None else given
    if reply.response_status == "failed":
        response["error"] = {"code": "server_error", "message": reply.error_message}
        response["output"] = []
    elif reply.response_status == "incomplete":
        reason = reply.finish_reason or "max_output_tokens"
        response["incomplete_details"] = {"reason": reason}
    return response


def _items(draft: Draft) -> list[dict[str, Any]]:
    status = "incomplete" if draft.reply.response_status == "incomplete" else "completed"
    items: list[dict[str, Any]] = []
    if draft.reply.content:
        items.append(
            {
                "id": draft.call_id("msg_", 0),
                "type": "message",
                "status": status,
                "role": "assistant",
                "content": [_part(draft.reply.content)],
            }
        )
    for i, call in enumerate(draft.reply.tool_calls):
        items.append(
            {
                "id": draft.call_id("fc_", i),
                "type": "function_call",
                "status": status,
                "call_id": draft.call_id("call_", i),
                "name": call.name,
                "arguments": call.json,
            }
        )
    return items


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


class _Events:
    """The numbered events of one response's stream."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []

    def stream(
        self, draft: Draft, finished: dict[str, Any], told: TokenUsage | None
    ) -> tuple[Piece, ...]:
        begun = finished | {"status": "in_progress", "output": [], "usage": None}
        begun |= {"error": None, "incomplete_details": None}
        self._add("response.created", response=begun)
        self._add("response.in_progress", response=begun)
        for index, item in enumerate(finished["output"]):
            if item["type"] == "message":
                self._message(index, item, draft.reply.content_chunks())
            else:
                self._function_call(index, item)
        self._add(f"response.{finished['status']}", told, response=finished)
        return tuple(self._pieces)

    def _message(self, index: int, item: dict[str, Any], chunks: list[str]) -> None:
        text = item["content"][0]["text"]
        place: dict[str, Any] = {"item_id": item["id"], "output_index": index, "content_index": 0}
        begun = item | {"status": "in_progress", "content": []}
        self._add("response.output_item.added", output_index=index, item=begun)
        self._add("response.content_part.added", **place, part=_part(""))
        for chunk in chunks:
            delta: dict[str, Any] = {"delta": chunk, "logprobs": [], **place}
            self._add("response.output_text.delta", is_content=True, **delta)
        self._add("response.output_text.done", **place, text=text, logprobs=[])
        self._add("response.content_part.done", **place, part=_part(text))
        self._add("response.output_item.done", output_index=index, item=item)

    def _function_call(self, index: int, item: dict[str, Any]) -> None:
        place = {"item_id": item["id"], "output_index": index}
        begun = item | {"status": "in_progress", "arguments": ""}
        kind = "response.function_call_arguments"
        self._add("response.output_item.added", output_index=index, item=begun)
        self._add(f"{kind}.delta", is_content=True, **place, delta=item["arguments"])
        self._add(f"{kind}.done", **place, name=item["name"], arguments=item["arguments"])
        self._add("response.output_item.done", output_index=index, item=item)

    def _add(
        self,
        kind: str,
        told: TokenUsage | None = None,
        *,
        is_content: bool = False,
        **fields: Any,
    ) -> None:
        body = {"type": kind, "sequence_number": len(self._pieces), **fields}
        self._pieces.append(Piece(event(body, kind), told, is_content))


def _usage_body(usage: TokenUsage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_creation_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }
