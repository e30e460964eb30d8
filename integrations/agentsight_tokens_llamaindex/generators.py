"""
Generators that a span returned and that somebody drains later.

What runs inside one was caused by whoever asked for it, not by whoever drains it, and it may
be drained in another conversation, task or thread. It is recognised by its frame, which is on
the stack of everything that it calls. Wrapping it instead would change what the user holds.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from types import AsyncGeneratorType, FrameType, GeneratorType
from typing import Any, Final, NamedTuple

from agentsight_tokens.meter import Recorder
from agentsight_tokens.scope import Attribution

from .spans import Span

__all__ = ["GeneratorTable", "Origin", "generator_in"]

_MAX_GENERATORS: Final = 65_536


class Origin(NamedTuple):
    """Who asked for a generator."""

    attribution: Attribution
    recorder: Recorder | None
    span: Span


class _Entry(NamedTuple):
    generator: weakref.ref[Any]
    origin: Origin


def generator_in(result: Any) -> Any:
    """Return the generator that a span's result is, or a streaming response holds, or None."""
    if type(result) in _TYPES:
        return result
    fields = getattr(result, "__dict__", None)
    held = fields.get("response_gen") if fields else None
    return held if type(held) in _TYPES else None


class GeneratorTable:
    """The generators that are still to be drained, by the id of their frame."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, generator: Any, origin: Origin, on_gone: Callable[[], None] | None) -> None:
        """
        Remember who asked for a generator.

        Args:
            generator: The generator, which is not kept alive.
            origin: Who asked for it.
            on_gone: Called when the generator is gone, whatever became of it.
        """
        frame = _frame_of(generator)
        if frame is None:
            return
        key = id(frame)

        def forget(_: weakref.ref[Any]) -> None:
            # An entry that another has replaced is gone, and its reference with it.
            self._entries.pop(key, None)
            if on_gone is not None:
                on_gone()

        known = self._entries.get(key)
        if known is not None and known.generator() is generator and on_gone is None:
            return
        if len(self._entries) >= _MAX_GENERATORS:
            with suppress(RuntimeError):  # another thread has just changed the table
                self._entries.pop(next(iter(self._entries), 0), None)
        self._entries[key] = _Entry(weakref.ref(generator, forget), origin)

    def running(self) -> Origin | None:
        """Return who asked for the innermost generator on this stack."""
        if not self._entries:
            return None
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # the only way to the stack
        while frame is not None:
            entry = self._entries.get(id(frame))
            # A frame's id is taken again once its generator has finished.
            if entry is not None and _frame_of(entry.generator()) is frame:
                return entry.origin
            frame = frame.f_back
        return None

    def clear(self) -> None:
        """Forget every generator."""
        self._entries.clear()


_TYPES: Final = (GeneratorType, AsyncGeneratorType)


def _frame_of(generator: Any) -> FrameType | None:
    frame: FrameType | None = getattr(generator, "gi_frame", None) or getattr(
        generator, "ag_frame", None
    )
    return frame
