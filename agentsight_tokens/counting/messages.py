"""Messages and tools, as the parts of them that are counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

__all__ = ["Image", "Uncounted", "message_parts", "parts_of", "tool_tokens"]

_TEXTS: Final = ("text", "input_text", "output_text", "refusal", "thinking", "summary_text")
_IMAGES: Final = ("image_url", "input_image", "image")
_NOT_READ: Final = frozenset({"type", "id", "status", "index"})
"""Fields of a message that are not shown to the model."""

_ROLES: Final = {"ai": "assistant", "human": "user"}

_TOOL_START: Final = {"cl100k_base": 10}
_TOOL_START_ELSE: Final = 7
_TOOLS_END: Final = 12
_PROPERTIES_START: Final = 3
_PROPERTY: Final = 3
_ENUM_START: Final = -3
_ENUM_ITEM: Final = 3


class Image(NamedTuple):
    """An image within a message."""

    data: str
    """A URL, a data URL or base64."""
    detail: str


class Uncounted(NamedTuple):
    """A part of a message for which no provider documents a rule."""

    kind: str


Part = str | Image | Uncounted


def message_parts(message: Any) -> Iterator[tuple[str, Part]]:
    """Return the fields of a message that the model reads, each with its parts."""
    for name, value in _fields(message).items():
        if name in _NOT_READ or value is None:
            continue
        if name == "tool_calls":
            for call in value:
                yield from ((name, part) for part in _call_parts(call))
        elif name == "function_call":
            yield from ((name, part) for part in _call_parts({"function": value}))
        elif isinstance(value, str) or name == "content":
            yield from ((name, part) for part in parts_of(value))


def _fields(message: Any) -> Mapping[str, Any]:
    """Return a message's fields: of a dict, an SDK's object or a LangChain message."""
    if isinstance(message, Mapping):
        return message
    names = ("role", "content", "name", "tool_calls", "function_call", "tool_call_id")
    fields = {name: getattr(message, name, None) for name in names}
    kind = getattr(message, "type", None)
    if fields["role"] is None and isinstance(kind, str):
        fields["role"] = _ROLES.get(kind, kind)
    if fields["role"] is None and fields["content"] is None:
        raise TypeError(
            f"a message is a dict or an object with a role and content, not {message!r:.80}"
        )
    return fields


def parts_of(content: Any) -> Iterator[Part]:
    """Return the parts of a text, of a part of a content, or of a list of them."""
    if content is None:
        return
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        yield from _content_part(content)
    elif isinstance(content, Iterable) and not isinstance(content, (bytes, bytearray)):
        for part in content:
            yield from parts_of(part)
    else:
        raise TypeError(f"tokens are counted of text and of lists of parts, not of {content!r:.80}")


def _content_part(part: Mapping[str, Any]) -> Iterator[Part]:
    kind = part.get("type", "text")
    if kind in _TEXTS:
        text = part.get("text") or part.get(kind)
        yield text if isinstance(text, str) else ""
    elif kind in _IMAGES:
        yield _image(part)
    elif kind == "tool_use":
        yield from _call_parts({"name": part.get("name"), "arguments": part.get("input")})
    elif kind == "tool_result":
        yield from parts_of(part.get("content"))
    else:
        yield Uncounted(str(kind))


def _image(part: Mapping[str, Any]) -> Image:
    held = part.get("image_url") or part.get("source") or {}
    if isinstance(held, str):
        held = {"url": held}
    data = held.get("url") or held.get("data") or ""
    return Image(str(data), str(held.get("detail") or part.get("detail") or "auto"))


def _call_parts(call: Any) -> Iterator[str]:
    """Return a tool call's name and arguments; its id and type are not shown to the model."""
    function = _get(call, "function") or call
    for name in ("name", "arguments", "args"):
        value = _get(function, name)
        if value is not None:
            yield value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _get(source: Any, name: str) -> Any:
    return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)


def tool_tokens(tools: Iterable[Any], encoding: str, count: Callable[[str], int]) -> int:
    """
    Return the tokens of tool definitions, by the formula of OpenAI's cookbook.

    It covers functions with properties and enums; objects within properties are counted in
    the same way, which is not documented.

    https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken (section 7),
    checked 2026-11-22.

    Args:
        tools: The definitions, as OpenAI or Anthropic take them.
        encoding: The name of the encoding, on which the constants depend.
        count: Returns the tokens of a text.
    """
    start = _TOOL_START.get(encoding, _TOOL_START_ELSE)
    total = 0
    for tool in tools:
        function = _get(tool, "function") or tool
        line = f"{_get(function, 'name')}:{_without_dot(_get(function, 'description'))}"
        schema = _get(function, "parameters") or _get(function, "input_schema")
        total += start + count(line) + _property_tokens(schema, count)
    return total + _TOOLS_END if total else 0


def _property_tokens(schema: Any, count: Callable[[str], int]) -> int:
    properties = _get(schema, "properties")
    if not properties:
        return 0
    total = _PROPERTIES_START
    for name, value in properties.items():
        choices = value.get("enum") or ()
        line = f"{name}:{value.get('type', '')}:{_without_dot(value.get('description'))}"
        total += _PROPERTY + count(line)
        total += _ENUM_START if choices else 0
        total += sum(_ENUM_ITEM + count(str(choice)) for choice in choices)
        total += _property_tokens(value, count) + _property_tokens(value.get("items"), count)
    return total


def _without_dot(text: str | None) -> str:
    return (text or "").removesuffix(".")
