"""The runs that are open: calls that have begun, and the tools that are at work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Lock
from typing import Any, Final
from uuid import UUID

from agentsight_tokens.faults import contained
from agentsight_tokens.meter import OpenCall

__all__ = ["OpenRuns", "Run", "ToolRuns"]

_MOST_RUNS: Final = 10_000
_MOST_ENDED: Final = 1_000
_LONGEST_RUN_SECONDS: Final = 6 * 3600.0
_SECONDS_BETWEEN_LOOKS: Final = 60.0


class Run:
    """One run of a model: its call, and what its stream has said so far."""

    # Defaults stand on the class, because most runs change none of them.
    starts = 1
    """How often its start was told: once for each time the callback was passed."""
    is_counted_by_sibling = False
    """Whether its usage is part of what another run of the same request reported."""
    has_first_token = False
    reports = 0
    """How many chunks carried a usage."""
    usage: Any = None
    """The usage of the last chunk that carried one."""
    usage_is_cumulative = True
    was_asked = False
    """Whether its model was asked, as far as that can be seen; not every prompt is."""
    result: Any = None
    """The model's answer, where the run's end was not told yet."""

    def __init__(self, call: OpenCall, *, prompt: int = 0, batch: int = 0) -> None:
        self.call = call
        self.began = time.monotonic()
        self.prompt = prompt
        """The identity of the prompt, which tells a repeated start from a reused run id."""
        self.batch = batch
        """The identity of what is shared by the runs of one request; 0 for a run of its own."""

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
        # By the ids' numbers, because the hash of a UUID takes longer than all the rest.
        self._runs: dict[Any, Run] = {}
        self._lock = Lock()
        self._most = most
        self._longest_seconds = longest
        self._next_look = 0.0
        self._ended: dict[Any, None] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, run_id: UUID) -> Run | None:
        """Return an open run."""
        return self._runs.get(_key(run_id))

    def repeat(self, run_id: UUID, prompt: int) -> bool:
        """Note another start of an open run, and return whether it is one."""
        run = self._runs.get(_key(run_id))
        if run is None:
            return False
        with self._lock:
            if run.prompt == prompt and not run.call.is_finished:
                run.starts += 1
                return True
            self._runs.pop(_key(run_id), None)  # used again, and the run before never closed
        _expire(run)
        return False

    def open(self, run_id: UUID, run: Run) -> None:
        """Add a run, and expire the oldest where there are too many or it is too old."""
        with self._lock:
            self._runs[_key(run_id)] = run
            if len(self._runs) <= self._most and run.began < self._next_look:
                return
            self._next_look = run.began + _SECONDS_BETWEEN_LOOKS
            expired = tuple(self._expired(run.began))
        for each in expired:
            _expire(each)

    def close(self, run_id: UUID) -> Run | None:
        """Note an end, and return the run; it leaves the table with its last end."""
        key = _key(run_id)
        with self._lock:
            run = self._runs.get(key)
            if run is not None:
                run.starts -= 1
                if run.starts <= 0:
                    del self._runs[key]
                    self._ended[key] = None
                    if len(self._ended) > _MOST_ENDED:
                        del self._ended[next(iter(self._ended))]
        return run

    def has_ended(self, run_id: UUID) -> bool:
        """
        Tell whether a run has ended and did not start again.

        LangChain may tell an end twice: a stream of `astream_events(version="v3")` that is
        cancelled behind its end, for one (langchain-core 1.7).
        """
        return _key(run_id) in self._ended

    def count_siblings(self, run: Run) -> None:
        """Mark the open runs whose usage is part of this run's."""
        with self._lock:
            for other in self._runs.values():
                if other.batch == run.batch:
                    other.is_counted_by_sibling = True

    def expire_all(self) -> None:
        """Take every run out, as unreported."""
        with self._lock:
            runs = tuple(self._runs.values())
            self._runs.clear()
            self._ended.clear()
        for run in runs:
            _expire(run)

    def _expired(self, now: float) -> Iterator[Run]:
        while True:
            oldest = next(iter(self._runs))
            run = self._runs[oldest]
            if len(self._runs) <= self._most and now - run.began < self._longest_seconds:
                return
            del self._runs[oldest]
            yield run


def _key(run_id: UUID) -> Any:
    return getattr(run_id, "int", run_id)  # a program may give its runs other ids


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
