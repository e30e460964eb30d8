"""Group commit: those who come while a commit runs share the next one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final, NamedTuple

from agentsight_tokens.cycle import Cycle
from agentsight_tokens.errors import StorageError, UnstorableError

from .call_row import CallRow

__all__ = ["Batch", "GroupCommit"]

_MOST_CALLS: Final = 10_000
"""Of one commit, unless a single batch has more."""


class Batch(NamedTuple):
    """Cycles that one project delivers together."""

    project_id: int
    cycles: Sequence[Cycle]
    calls: Sequence[CallRow] = ()
    """Those of the cycles, made ready before it is their turn."""
    lines: Sequence[bytes] = ()
    """The same as PostgreSQL takes them, if it does."""


class GroupCommit:
    """
    Commits the batches of many threads in few transactions.

    A commit costs a wait for the disk, however much is in it. Nobody waits for others to come:
    what has gathered while the disk was busy goes with the next commit.
    """

    def __init__(self, commit: Callable[[Sequence[Batch]], None]) -> None:
        """
        Set up the commits.

        Args:
            commit: Commits batches, all or none, and raises `UnstorableError` for what is in one.
        """
        self._commit = commit
        self._turn = Lock()
        self._lock = Lock()
        self._waiting: deque[_Waiting] = deque()

    def submit(self, batch: Batch) -> None:
        """Return when a batch is committed; raise what its own commit raises."""
        mine = _Waiting(batch)
        with self._lock:
            self._waiting.append(mine)
        with self._turn:
            while not mine.is_tried:
                self._commit_next()
        if mine.error is not None:
            raise mine.error

    def _commit_next(self) -> None:
        group = self._take()
        for each in group:
            each.is_tried = True
        error = self._error_of(group)
        for each in group:
            # What is in one batch costs no other.
            is_anybodys = isinstance(error, UnstorableError) and len(group) > 1
            each.error = self._error_of([each]) if is_anybodys else error

    def _error_of(self, group: Sequence[_Waiting]) -> Exception | None:
        """Commit batches; return why they are not."""
        try:
            self._commit([each.batch for each in group])
        except Exception as error:  # noqa: BLE001  # it is raised where it belongs
            return error
        return None

    def _take(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        calls = 0
        with self._lock:
            while self._waiting:
                calls += sum(len(cycle.records) for cycle in self._waiting[0].batch.cycles)
                if group and calls > _MOST_CALLS:
                    break
                group.append(self._waiting.popleft())
        return group


class _Waiting:
    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.is_tried = False
        self.error: Exception | None = StorageError("the commit was interrupted")
        """Until the commit has succeeded, so that nothing else can acknowledge the batch."""
