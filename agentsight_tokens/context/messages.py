"""Messages of any framework, read and shortened without importing it."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from agentsight_tokens.counting import TokenCounter

__all__ = ["ReadMessage", "Role", "summary_like", "texts_of", "tokens_of"]

Role = Literal["system", "user", "assistant", "tool"]

_ROLES: Final[dict[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "chatbot": "assistant",
    "tool": "tool",
    "function": "tool",
}
_CALL_TYPES: Final = frozenset({"tool_use", "function_call", "tool_call", "server_tool_use"})
_ANSWER_TYPES: Final = frozenset(
    {"tool_result", "function_call_output", "tool_output", "web_search_tool_result"}
)


class ReadMessage:
    """
    What compression needs to know of a message, whatever its type.

    Args:
        message: An OpenAI or Anthropic dict, an item of OpenAI's Responses API, a message of
            LangChain or a `ChatMessage` of LlamaIndex.

    Raises:
        TypeError: If it is no message.
    """

    __slots__ = ("answers", "calls", "leads", "message", "role")

    def __init__(self, message: Any) -> None:
        self.message = message
        kind = _get(message, "type")
        extra = _get(message, "additional_kwargs") or {}
        blocks = [block for block in _blocks(message) if not isinstance(block, str)]
        self.calls: frozenset[str] = _ids(
            *(_get(call, "id") for call in _get(message, "tool_calls") or ()),
            *(_get(call, "id") for call in _get(extra, "tool_calls") or ()),
            *(_block_id(b, "id", "call_id", "tool_call_id") for b in blocks if _is(b, _CALL_TYPES)),
            _block_id(message, "call_id", "id") if kind in _CALL_TYPES else None,
        )
        """Ids of the tool calls that it makes."""
        self.answers: frozenset[str] = _ids(
            _get(message, "tool_call_id"),
            _get(extra, "tool_call_id"),
            *(_block_id(b, "tool_use_id", "call_id") for b in blocks if _is(b, _ANSWER_TYPES)),
            _block_id(message, "call_id") if kind in _ANSWER_TYPES else None,
        )
        """Ids of the tool calls that it answers."""
        self.role = self._role(kind)
        self.leads = kind == "reasoning"
        """Whether it must stay with the message after it."""

    @property
    def is_users_turn(self) -> bool:
        """Whether the user speaks, rather than a tool in the user's place."""
        return self.role == "user" and not self.answers

    def canonical(self) -> dict[str, Any]:
        """Return the message as a dict of the fields that a model reads."""
        message = self.message
        kind = _get(message, "type")
        if kind in _CALL_TYPES and _get(message, "role") is None:
            return {"role": self.role, "tool_calls": [message]}
        content = _get(message, "content")
        if content is None:
            content = _get(message, "output") or _get(message, "summary")
        if isinstance(content, Iterable) and not isinstance(content, (str, Mapping)):
            content = [_countable(block) for block in content]
        extra = _get(message, "additional_kwargs") or {}
        return {
            "role": self.role,
            "content": content,
            "name": _get(message, "name"),
            "tool_calls": _get(message, "tool_calls") or _get(extra, "tool_calls"),
        }

    def shortened(self, shorten: Callable[[str], str]) -> Any:
        """Return a message of the same type whose texts are shortened; ids stay as they are."""
        message = self.message
        if isinstance(message, Mapping):
            fields = [name for name in ("content", "output") if message.get(name)]
            changes = {name: _shortened_content(message[name], shorten) for name in fields}
            return {**message, **changes}
        content = _shortened_content(_get(message, "content"), shorten)
        if hasattr(message, "model_copy"):
            if "content" in getattr(type(message), "model_fields", {}):
                return message.model_copy(update={"content": content})
            message = message.model_copy()
        else:
            message = copy.copy(message)
        message.content = content
        return message

    def _role(self, kind: Any) -> Role:
        given = _get(self.message, "role")
        if given is None and isinstance(kind, str):
            if kind in _CALL_TYPES or kind == "reasoning":
                return "assistant"
            if kind in _ANSWER_TYPES:
                return "tool"
            given = kind.removesuffix("MessageChunk").lower()
        name = str(getattr(given, "value", given)).lower()
        if name not in _ROLES:
            raise TypeError(f"a message has a role or a type, not {self.message!r:.80}")
        return _ROLES[name]


def tokens_of(counter: TokenCounter, message: ReadMessage) -> int:
    """Return the tokens of one message among others, its share of the format included."""
    return counter.count_messages([message.canonical()]) - counter.count_messages([])


def texts_of(content: Any) -> Iterator[str]:
    """Return the texts within a content, a block or a canonical message."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for name in ("text", "content", "output", "name", "arguments", "args", "input", "function"):
            yield from texts_of(content.get(name))
        yield from texts_of(content.get("tool_calls"))
    elif isinstance(content, Iterable):
        for part in content:
            yield from texts_of(part)
    elif hasattr(content, "text"):
        yield from texts_of(content.text)


def summary_like(example: Any, text: str) -> Any:
    """Return a user's message that holds a summary, of the type of another message."""
    if isinstance(example, Mapping) or not hasattr(example, "model_copy"):
        return {"role": "user", "content": text}
    if hasattr(example, "role"):  # LlamaIndex
        role = type(example.role)("user") if not isinstance(example.role, str) else "user"
        return type(example)(role=role, content=text)
    # LangChain; the program has imported it, for it made the example.
    return sys.modules["langchain_core.messages"].HumanMessage(content=text)


def _shortened_content(content: Any, shorten: Callable[[str], str]) -> Any:
    if isinstance(content, str):
        return shorten(content)
    if isinstance(content, Mapping):
        changed = dict(content)
        for field in ("text", "content", "output"):
            if field in changed:
                changed[field] = _shortened_content(changed[field], shorten)
        return changed
    if isinstance(content, Sequence):
        return [_shortened_content(part, shorten) for part in content]
    return content


def _blocks(message: Any) -> Sequence[Any]:
    for name in ("blocks", "content"):
        found = _get(message, name)
        if isinstance(found, Sequence) and not isinstance(found, str):
            return found
    return ()


def _countable(block: Any) -> Any:
    """Return a block as the counter reads it."""
    if isinstance(block, (str, Mapping)):
        return block
    text = getattr(block, "text", None)
    if isinstance(text, str):
        return text
    dump = getattr(block, "model_dump", None)
    return json.dumps(dump(mode="json")) if dump else str(block)


def _is(block: Any, types: frozenset[str]) -> bool:
    return _get(block, "type") in types or _get(block, "block_type") in types


def _block_id(block: Any, *names: str) -> Any:
    return next((value for name in names if (value := _get(block, name))), None)


def _ids(*values: Any) -> frozenset[str]:
    return frozenset(str(value) for value in values if value)


def _get(source: Any, name: str) -> Any:
    return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
