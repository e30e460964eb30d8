"""
The barrier: what has returned to the program is counted before the program reads.

LiteLLM tells of a synchronous call's end in another thread, half a millisecond after it has
returned, and of an asynchronous one that was cancelled, or whose retries it made itself, not
at all (litellm 1.106).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from threading import get_ident
from types import FrameType
from typing import Final

from agentsight_tokens.faults import guarded

from .answers import read_answer
from .call import Call
from .calls import CallTable

__all__ = ["Barrier"]

_LONGEST_WAIT_SECONDS: Final = 2.0
_LONGEST_WAIT_UNANSWERED_SECONDS: Final = 0.5
_RECENT_SECONDS: Final = 1.0
_TURNS: Final = 50
_TURN_SECONDS: Final = 0.001


class Barrier:
    """Finishes the calls of which LiteLLM is late to tell, or does not tell at all."""

    def __init__(self, table: CallTable, *, longest: float = _LONGEST_WAIT_SECONDS) -> None:
        self._table = table
        self._longest_seconds = longest
        self._gone: deque[tuple[Call, bool]] = deque()

    @guarded
    def let_go(self, call: Call, *, is_complete: bool) -> None:
        """
        Remember a stream that the program let go of.

        The garbage collector may tell of it in the midst of anything, also while a lock is
        held that finishing its call would take.
        """
        self._gone.append((call, is_complete))

    @guarded
    def settle_streams(self) -> None:
        """Finish the streams that the program let go of."""
        while self._gone:
            call, is_complete = self._gone.popleft()
            self._table.leave_stream(call, is_complete=is_complete)

    @guarded
    def settle(self) -> None:
        """Let the calls that have returned be counted; what is still running is left alone."""
        self.settle_streams()
        self._await_letting_go()
        open_calls = [call for call in self._table.under_way() if call.is_watched]
        if not open_calls or _is_inside_litellm():
            return
        for call in open_calls:
            if call.is_asynchronous:
                self._settle_asynchronous(call)
        returned = [call for call in open_calls if _has_returned(call)]
        if returned:
            self._wait(returned)

    def _await_letting_go(self) -> None:
        """
        Wait, once for each stream, for LiteLLM to let go of what the program has dropped.

        Its threads hold a synchronous stream for some milliseconds after each part (litellm
        1.106). Turns are counted, not seconds: on a busy machine theirs come as late as ours.
        """
        began = time.monotonic()
        held = [
            call
            for call in self._table.under_way()
            if call.streams
            and not call.is_asynchronous
            and not call.was_awaited
            and began - call.last_part_at < _RECENT_SECONDS
        ]
        for _ in range(_TURNS):
            if not held:
                break
            time.sleep(_TURN_SECONDS)
            self.settle_streams()
            held = [call for call in held if self._table.is_under_way(call)]
        for call in held:
            call.was_awaited = True

    def _settle_asynchronous(self, call: Call) -> None:
        if call.raw is not None and self._finish_from_raw(call):
            return
        if call.streams or call.is_answered or not _is_over(call):
            return
        # No error is told of a task that was cancelled.
        self._table.fail(call, call.error or asyncio.CancelledError())

    def _wait(self, returned: list[Call]) -> None:
        """Wait for the callbacks of synchronous calls, and do without those that do not come."""
        began = time.monotonic()
        with self._table.ended:
            while True:
                # Not those that are finished, but those whose record is kept.
                waiting = [call for call in returned if self._table.is_under_way(call)]
                passed = time.monotonic() - began
                limit = max(map(self._patience, waiting), default=0.0) - passed
                if limit <= 0:
                    break
                self._table.ended.wait(limit)
        for call in waiting:
            is_told = call.raw is not None and self._finish_from_raw(call)
            if not is_told and not (call.is_answered and call.error is None):
                self._table.fail(call, call.error)

    def _patience(self, call: Call) -> float:
        if call.error is not None or (call.is_untold and call.raw is not None):
            return 0.0
        if call.is_answered:
            return self._longest_seconds
        return min(self._longest_seconds, _LONGEST_WAIT_UNANSWERED_SECONDS)

    def _finish_from_raw(self, call: Call) -> bool:
        """Finish a call with the provider's own JSON, if that tells the usage."""
        found = read_answer(call.raw, call.open.provider)
        if found.usage is None:
            return False
        self._table.finish(call, found)
        return True


def _has_returned(call: Call) -> bool:
    """Tell whether a synchronous call that was not streamed has returned to the program."""
    if call.is_asynchronous or call.streams:
        return False
    if call.is_stream and call.is_answered:  # it is in the program's hands
        return False
    # Nothing of LiteLLM is on the stack, so this thread's calls are over.
    return (call.is_answered and call.error is None) or call.thread == get_ident()


def _is_over(call: Call) -> bool:
    """Tell whether the task of an asynchronous call no longer waits for its answer."""
    task = call.task() if call.task is not None else None
    if task is None:
        return call.task is not None
    if task.done():
        return True
    try:
        return task is asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return False


def _is_inside_litellm() -> bool:
    """Tell whether this runs within a call of LiteLLM's, as a callback or a tool of its does."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # no public way tells who calls
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name == "litellm" or name.startswith("litellm."):
            return True
        frame = frame.f_back
    return False
