"""LoopbackRequest: one request as the loopback provider received it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentsight_tokens.usage import Operation

__all__ = ["LoopbackRequest"]


@dataclass(frozen=True, kw_only=True)
class LoopbackRequest:
    """One request. Its body is what the client sent, of whatever provider."""

    path: str
    endpoint: str
    """The route's name, the same for every spelling of its path."""
    operation: Operation
    headers: Mapping[str, str]
    """The headers by their names in lower case."""
    body: Mapping[str, Any]
    model: str
    is_stream: bool

    @property
    def items(self) -> list[Any]:
        """Each prompt or each text to embed, as it was sent: a text or an array of tokens."""
        given = self.body.get("prompt", self.body.get("input", ""))
        is_single = isinstance(given, str) or (bool(given) and isinstance(given[0], int))
        return [given] if is_single else list(given)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The last user message, or each prompt, or each text to embed; "" for token arrays."""
        if self.operation == "chat":
            return (self._last_user_text(),)
        return tuple(item if isinstance(item, str) else "" for item in self.items)

    @property
    def text(self) -> str:
        """Everything that the user says last, as one text."""
        return "\n".join(self.inputs)

    @property
    def system_text(self) -> str:
        """The system's or the developer's part of the request."""
        body = self.body
        told = [body.get(key) for key in ("system", "instructions", "systemInstruction")]
        told += [
            message.get("content")
            for message in self._messages()
            if message.get("role") in ("system", "developer")
        ]
        return "\n".join(_text(part) for part in told if part)

    @property
    def has_tool_result(self) -> bool:
        """Whether a tool's result follows the last thing that the user said."""
        for message in reversed(self._messages()):
            if message.get("role") == "tool" or message.get("type") == "function_call_output":
                return True
            parts = message.get("content") or message.get("parts")
            if isinstance(parts, list) and any(_is_tool_result(part) for part in parts):
                return True
            if message.get("role") == "user":
                return False
        return False

    @property
    def label(self) -> str | None:
        """The label that a header or a field names; a directive is not looked for here."""
        metadata = self.body.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        found = (
            self.headers.get("x-loopback-label")
            or self.body.get("user")
            or metadata.get("label")
            or metadata.get("user_id")
        )
        return str(found) if found else None

    def _messages(self) -> list[dict[str, Any]]:
        for key in ("messages", "contents", "input"):
            given = self.body.get(key)
            if isinstance(given, list):
                return [item for item in given if isinstance(item, dict)]
        return []

    def _last_user_text(self) -> str:
        given = self.body.get("input")
        if isinstance(given, str):
            return given
        for message in reversed(self._messages()):
            if message.get("role", "user") == "user":
                text = _text(message.get("content") or message.get("parts"))
                if text:
                    return text
        return ""


def _text(content: Any) -> str:
    """Return the text of a message's content in any provider's shape."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = content.get("parts") or [content]
    if isinstance(content, list):
        texts = (part.get("text") if isinstance(part, dict) else part for part in content)
        return "\n".join(text for text in texts if isinstance(text, str))
    return ""


def _is_tool_result(part: Any) -> bool:
    return isinstance(part, dict) and (
        part.get("type") == "tool_result" or "functionResponse" in part
    )
