"""One request that is under way, and whose it is."""

from __future__ import annotations

import asyncio
import sys
import time
import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime
from threading import get_ident
from typing import Any, Final

from agentsight_tokens.meter import OpenCall

from .answers import ASYNCHRONOUS, WATCHED

__all__ = ["Call", "Key", "Request", "key_of", "request_in_force"]

Key = tuple[object, datetime | None]
"""LiteLLM's id of a call, which a program may give to several at once, and when it began."""


def key_of(details: Mapping[str, Any]) -> Key:
    """Return what tells the calls of LiteLLM's `model_call_details` apart."""
    return details.get("litellm_call_id"), details.get("start_time")


class Request:
    """An asynchronous request, as its own task knows it."""

    __slots__ = ("before", "call", "call_id", "task")

    def __init__(self, call_id: object) -> None:
        self.call_id = call_id
        self.task = _current_task()
        self.before = sys.exc_info()[1]
        self.call: OpenCall | None = None
        """The call, which may begin in another thread, with a copy of the task's context."""


request_in_force: Final[ContextVar[Request | None]] = ContextVar(
    "agentsight_litellm_request", default=None
)


class Call:
    """One request, from the moment at which it is sent."""

    __slots__ = (
        "before",
        "began",
        "error",
        "has_token",
        "is_answered",
        "is_asynchronous",
        "is_ending",
        "is_stream",
        "is_untold",
        "is_watched",
        "key",
        "last_part_at",
        "open",
        "raw",
        "sources",
        "streams",
        "task",
        "thread",
        "was_awaited",
    )

    def __init__(self, opened: OpenCall, details: Mapping[str, Any]) -> None:
        kind = details.get("call_type")
        self.key = key_of(details)
        self.open = opened
        self.began = time.monotonic()
        self.is_stream = details.get("stream") is True
        self.is_watched = not self.is_stream or kind in WATCHED
        """Whether it is known when the answer comes into the program's hands."""
        self.is_untold = bool((details.get("litellm_params") or {}).get("no-log"))
        """Whether the program told LiteLLM to tell nobody of its success."""
        self.thread = get_ident()
        self.task: weakref.ref[Any] | None = None
        """The task that waits for the answer, as far as it is known."""
        self.before: BaseException | None = sys.exc_info()[1]
        """What was being handled when it began, such as the failure of an earlier attempt."""
        self.error: BaseException | None = None
        """What LiteLLM caught where it expected the answer."""
        self.is_answered = False
        self.is_ending = False
        """Whether an end was told, of which there may be several."""
        self.raw: str | None = None
        """The provider's own JSON."""
        self.has_token = False
        self.sources: list[list[Any]] = []
        """The parts that the wrappers of its stream have passed on."""
        self.streams: list[int] = []
        """Those of the wrappers that are still there, the outermost last, by their identity."""
        self.last_part_at = 0.0
        self.was_awaited = False
        """Whether a reader has waited in vain for the program to let go of its stream."""
        request = request_in_force.get()
        is_requested = request is not None and request.call_id == self.key[0]
        self.is_asynchronous = is_requested or kind in ASYNCHRONOUS
        if request is not None and is_requested:
            self.task, self.before = request.task, request.before or self.before
            request.call, request.before = opened, None
        elif self.is_asynchronous:
            self.task = _current_task()

    def let_go(self) -> None:
        """Hold nothing of LiteLLM's any more; the program may keep a stream that has ended."""
        self.before = self.error = self.raw = None
        self.sources = []


def _current_task() -> weakref.ref[Any] | None:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return None
    return weakref.ref(task) if task is not None else None
