"""The runs that are open: calls that have begun, and the tools that are at work."""

from __future__ import annotations

import contextlib
from collections import deque
from threading import Lock
from typing import Any, Final
from uuid import UUID

import msgspec

from agentsight_tokens.faults import contained
from agentsight_tokens.meter import OpenCall

__all__ = ["OpenRuns", "Run", "ToolRuns"]

_MOST_RUNS: Final = 10_000
_MOST_ENDED: Final = 1_000
_LONGEST_RUN_SECONDS: Final = 6 * 3600.0
_SECONDS_BETWEEN_LOOKS: Final = 60.0


class Run(msgspec.Struct, eq=False):
    """One run of a model: its call, and what its stream has said so far."""

    call: OpenCall
    manager: Any = None
    """Its own callback manager, which knows its id."""
    key: Any = None
    """The number of its id, or whatever else a program gave it for one."""
    batch: int = 0
    """The identity of what is shared by the runs of one request; 0 for a run of its own."""
    is_counted_by_sibling: bool = False
    """Whether its usage is part of what another run of the same request reported."""
    has_first_token: bool = False
    reports: int = 0
    """How many chunks carried a usage."""
    usage: Any = None
    """The usage of the last chunk that carried one."""
    usage_is_cumulative: bool = True

    @property
    def was_streamed(self) -> bool:
        """Whether the model said anything before the end."""
        return self.has_first_token or self.reports > 0

    def add_report(self, usage: Any) -> None:
        """Note the usage that one chunk carried."""
        before = self.usage
        self.reports += 1
        self.usage = usage
        given, made = usage.get("input_tokens") or 0, usage.get("output_tokens") or 0
        # Anthropic's totals run, too, where a server tells the input in the first event only.
        if (given <= 0 and self.call.provider != "anthropic") or (
            before is not None
            and (
                given < (before.get("input_tokens") or 0)
                or made < (before.get("output_tokens") or 0)
            )
        ):
            self.usage_is_cumulative = False


class OpenRuns:
    """
    The open runs by their id.

    Some are never closed, so the table is bounded in number and age: what leaves it unclosed
    is counted as unreported.
    """

    def __init__(self, *, most: int = _MOST_RUNS, longest: float = _LONGEST_RUN_SECONDS) -> None:
        # By the ids' numbers, because the hash of a UUID takes longer than all the rest. What
        # each call does is a single step of the interpreter, so that it needs no lock.
        self.by_key: dict[Any, Run] = {}
        self._lock = Lock()
        self._most = most
        self._longest_seconds = longest
        self._next_look = 0.0
        self._ended: deque[Any] = deque(maxlen=_MOST_ENDED)

    def __len__(self) -> int:
        return len(self.by_key)

    def get(self, run_id: UUID) -> Run | None:
        """Return an open run."""
        return self.by_key.get(getattr(run_id, "int", run_id))

    def open(self, run: Run) -> None:
        """
        Add a run, and expire those for which there is no room any more.

        That is the oldest where there are too many or it is too old, and one of the same id,
        which is used again because its run never closed.
        """
        runs, key = self.by_key, run.key
        before = runs.pop(key, None)  # its place is at the end now
        if before is not None:
            _expire(before)
        runs[key] = run
        if len(runs) > self._most or run.call.began >= self._next_look:
            self._next_look = run.call.began + _SECONDS_BETWEEN_LOOKS
            self._expire_old(run.call.began)

    def close(self, run_id: UUID) -> Run | None:
        """Note an end, and return the run; None if it is not open."""
        run = self.by_key.pop(getattr(run_id, "int", run_id), None)
        if run is not None:
            self._ended.append(run.key)
        return run

    def ends_again(self, run_id: UUID) -> bool:
        """
        Note the end of a run that is not open, and return whether it has ended before.

        LangChain may tell an end twice: a stream of `astream_events(version="v3")` that is
        cancelled behind its end, for one (langchain-core 1.7).
        """
        key = getattr(run_id, "int", run_id)
        if key in tuple(self._ended):
            return True
        self._ended.append(key)
        return False

    def count_siblings(self, run: Run) -> None:
        """Mark the open runs whose usage is part of this run's."""
        for other in tuple(self.by_key.values()):
            if other.batch == run.batch:
                other.is_counted_by_sibling = True

    def expire_all(self) -> None:
        """Take every run out, as unreported."""
        runs, self.by_key = self.by_key, {}
        self._ended.clear()
        for run in tuple(runs.values()):
            _expire(run)

    def _expire_old(self, now: float) -> None:
        expired = []
        with self._lock:
            while (oldest := self._oldest()) is not None:
                key, run = oldest
                is_young = now - run.call.began < self._longest_seconds
                if len(self.by_key) <= self._most and is_young:
                    break
                expired.append(self.by_key.pop(key, None))
        for each in filter(None, expired):  # None was closed meanwhile by another thread
            _expire(each)

    def _oldest(self) -> tuple[Any, Run] | None:
        # Another thread may add or close one while this looks; then the next call looks again.
        with contextlib.suppress(RuntimeError, StopIteration):
            return next(iter(self.by_key.items()))
        return None


def _expire(run: Run) -> None:
    with contained("expiry of an open run"):
        run.call.finish(None, status="error", unreported_reason="run_never_closed")


class ToolRuns:
    """The names of the tools at work, by the ids of their runs and of the runs inside them."""

    def __init__(self, *, most: int = _MOST_RUNS) -> None:
        self.names: dict[UUID, str] = {}
        """The tools' names by run; empty while no tool is at work."""
        self._lock = Lock()
        self._most = most

    def name(self, run_id: UUID | None) -> str | None:
        """Return the tool that a run is, or is inside of."""
        return self.names.get(run_id) if run_id is not None else None

    def open(self, run_id: UUID, name: str) -> None:
        """Note that a run is, or is inside of, a tool."""
        with self._lock:
            self.names[run_id] = name
            if len(self.names) > self._most:
                del self.names[next(iter(self.names))]

    def close(self, run_id: UUID) -> None:
        """Forget a run."""
        with self._lock:
            self.names.pop(run_id, None)

    def clear(self) -> None:
        """Forget every run."""
        with self._lock:
            self.names.clear()
