"""What a request of Google's Gen AI SDK asks of its model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agentsight_tokens.meter import Asked

__all__ = ["asked_of_body"]


def asked_of_body(body: Mapping[str, Any]) -> Asked:
    """Return what the JSON of a request asks for, a generation's or an embedding's."""
    config = body.get("generationConfig") or {}
    tools = [
        function
        for tool in body.get("tools") or ()
        for function in tool.get("functionDeclarations") or ()
    ]
    return Asked(
        [*_messages(body)] or [*_texts(body)],
        config.get("maxOutputTokens"),
        config.get("candidateCount") or 1,
        tools,
    )


def _messages(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    system = body.get("systemInstruction")
    if system:
        yield {"role": "system", "content": [*_parts(system)]}
    for content in body.get("contents") or ():
        yield {"role": content.get("role") or "user", "content": [*_parts(content)]}


def _texts(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts to embed, as Gemini and as Vertex AI are told of them."""
    for request in (body, *(body.get("requests") or ())):
        content = request.get("content")
        if content:
            yield from (text for text in _parts(content) if isinstance(text, str))
    for instance in body.get("instances") or ():
        yield str(instance.get("content") or "")


def _parts(content: Mapping[str, Any]) -> Iterable[Any]:
    for part in content.get("parts") or ():
        if "text" in part:
            yield part["text"]
        elif "inlineData" in part:
            data = part["inlineData"]
            url = f"data:{data.get('mimeType')};base64,{data.get('data')}"
            yield {"type": "image_url", "image_url": url}
        elif "fileData" in part:
            yield {"type": "image_url", "image_url": part["fileData"].get("fileUri") or ""}
        else:  # a call of a function, or its answer
            yield json.dumps(part, default=str)
