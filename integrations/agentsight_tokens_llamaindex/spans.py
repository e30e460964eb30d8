"""
The spans that are open: who called whom, in which tool and for which agent.

A span keeps its parent alive, so the line of ancestors is whole even where a task outlives
the span that started it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, Literal

from agentsight_tokens.errors import BudgetExceededError
from agentsight_tokens.meter import OpenCall

__all__ = ["MAX_OPEN", "Span", "SpanTable", "is_a"]

MAX_OPEN: Final = 65_536
"""How many spans may be open; beyond, the oldest is forgotten."""

_UUID_LENGTH: Final = 37
"""Span ids are `Class.method-<uuid>`."""

_MAX_KINDS: Final = 4096

_Kind = Literal["tool", "agent", "step", "structured", "model", "embed", "other"]

_MODEL_METHODS: Final = frozenset({"chat", "complete", "achat", "acomplete"})
_TOOL_METHODS: Final = frozenset({"call", "acall", "__call__"})


def is_a(kind: type, module: str, name: str) -> bool:
    """Tell whether a class derives from one that the program may never have imported."""
    base = getattr(sys.modules.get(module), name, None)
    return base is not None and issubclass(kind, base)


class Span:
    """One span and what it says of the calls below it."""

    __slots__ = (
        "agent",
        "began",
        "embeddings",
        "has_call",
        "id",
        "instance",
        "kind",
        "parent",
        "refusal",
        "texts",
        "tool",
    )

    def __init__(self, id_: str, parent: Span | None, kind: _Kind, instance: Any) -> None:
        self.id = id_
        self.parent = parent
        self.began = time.perf_counter()
        self.kind = kind
        self.instance = instance
        self.embeddings: list[OpenCall] | None = None
        """The batches that this span embeds, in their order."""
        self.texts: list[str] = []
        """The texts that this span has still to embed."""
        self.refusal: BudgetExceededError | None = None
        """Why the call that this span is about to make must not be made."""
        self.has_call = False
        """Whether a call was made in this span or below it."""
        self.tool: str | None = parent.tool if parent else None
        self.agent: str | None = parent.agent if parent else None

    @property
    def method(self) -> str:
        """The name of the method that the span is about."""
        return self.id[:-_UUID_LENGTH].rpartition(".")[2]

    def line(self) -> Iterator[Span]:
        """Yield this span and its ancestors."""
        span: Span | None = self
        while span is not None:
            yield span
            span = span.parent


class SpanTable:
    """The open spans by their id."""

    def __init__(self) -> None:
        self._open: dict[str, Span] = {}
        self._kinds: dict[tuple[str, type], _Kind] = {}

    def __len__(self) -> int:
        return len(self._open)

    def get(self, id_: str | None) -> Span | None:
        """Return an open span."""
        return self._open.get(id_) if id_ is not None else None

    def enter(self, id_: str, parent_id: str | None, instance: Any, arguments: Any) -> Span:
        """Open a span."""
        name = id_[:-_UUID_LENGTH]
        key = (name, type(instance))
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= _MAX_KINDS:  # classes made at run time
                self._kinds.clear()
            kind = self._kinds[key] = _kind_of(name.rpartition(".")[2], type(instance))
        span = Span(id_, self.get(parent_id), kind, instance)
        if kind == "tool":
            span.tool = _name_of(getattr(instance, "metadata", None)) or span.tool
        elif kind == "agent":
            span.agent = _name_of(instance) or span.agent
        elif kind == "step":
            event = arguments.arguments.get("ev")
            span.agent = getattr(event, "current_agent_name", None) or span.agent
        if len(self._open) >= MAX_OPEN:
            self._forget_oldest()
        self._open[id_] = span
        return span

    def leave(self, id_: str) -> Span | None:
        """Close a span and return it."""
        return self._open.pop(id_, None)

    def clear(self) -> None:
        """Forget every span."""
        self._open.clear()

    def _forget_oldest(self) -> None:
        with suppress(RuntimeError):  # another thread has just changed the table
            self._open.pop(next(iter(self._open), ""), None)


def _name_of(holder: Any) -> str | None:
    name = getattr(holder, "name", None)
    return name if isinstance(name, str) and name else None


def _kind_of(method: str, kind: type) -> _Kind:
    if is_a(kind, "llama_index.core.base.llms.base", "BaseLLM"):
        if method.endswith("structured_predict"):
            return "structured"
        return "model" if method in _MODEL_METHODS else "other"
    if method == "run_agent_step":
        return "step"
    if method in _TOOL_METHODS and is_a(kind, "llama_index.core.tools.types", "BaseTool"):
        return "tool"
    if method == "run":
        is_agent = is_a(kind, "llama_index.core.agent.workflow.base_agent", "BaseWorkflowAgent")
        return "agent" if is_agent else "other"
    if "embedding" in method and is_a(
        kind, "llama_index.core.base.embeddings.base", "BaseEmbedding"
    ):
        return "embed"
    return "other"
