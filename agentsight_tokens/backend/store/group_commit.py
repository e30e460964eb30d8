"""Group commit: those who come while a commit runs share the next one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition, Lock
from typing import Final, NamedTuple

from agentsight_tokens.cycle import Cycle
from agentsight_tokens.errors import StorageError, UnstorableError

from .call_row import CallRow

__all__ = ["Batch", "GroupCommit"]

_MOST_CALLS: Final = 10_000
"""Of one commit, unless a single batch has more."""


_PART_OF_A_COMMIT: Final = 0.25
"""That is waited at most for those who came the last time."""


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

    A commit costs a wait for the disk, however much is in it, and work that is the same for few
    calls and for many. So what has gathered while the disk was busy goes with the next commit;
    and those who came together the last time, who are mostly about to come together again, are
    waited for a little. Who comes alone waits for nobody.
    """

    def __init__(self, commit: Callable[[Sequence[Batch]], None]) -> None:
        """
        Set up the commits.

        Args:
            commit: Commits batches, all or none, and raises `UnstorableError` for what is in one.
        """
        self._commit = commit
        self._has_come = Condition(Lock())
        """Held to look at those below, told when one comes."""
        self._waiting: deque[_Waiting] = deque()
        self._leader: _Waiting | None = None
        """The one whose thread commits what waits."""
        self._last_size = 0
        self._last_seconds = 0.0

    def submit(self, batch: Batch) -> None:
        """Return when a batch is committed; raise what its own commit raises."""
        mine = _Waiting(batch)
        try:
            with self._has_come:
                self._waiting.append(mine)
                self._leader = self._leader or mine
                self._has_come.notify()
            if self._leader is not mine:
                mine.turn.acquire()
            if self._leader is mine:
                self._gather()
                mine.group = self._take()
                self._commit_group(mine.group)
        finally:
            self._leave(mine)
        if mine.error is not None:
            raise mine.error

    def _leave(self, mine: _Waiting) -> None:
        """Wake those whose commit has ended, and the next one who commits."""
        # Each by itself: behind a lock that is held by who commits, those who are done would come
        # again with something new only after others' commits.
        woken: list[_Waiting] = []
        with self._has_come:
            if mine in self._waiting:  # it was interrupted
                self._waiting.remove(mine)
            if self._leader is mine:
                woken += [each for each in mine.group if each is not mine]
                mine.group = ()  # no circle: it would keep all their calls in memory
                self._leader = self._waiting[0] if self._waiting else None
                if self._leader is not None:
                    woken.append(self._leader)
        for each in woken:
            each.turn.release()

    def _gather(self) -> None:
        """Wait a little until as many have come as the last time."""
        if self._last_size > 1:
            with self._has_come:
                self._has_come.wait_for(
                    lambda: len(self._waiting) >= self._last_size,
                    self._last_seconds * _PART_OF_A_COMMIT,
                )

    def _commit_group(self, group: Sequence[_Waiting]) -> None:
        began = time.perf_counter()
        error = self._error_of(group)
        self._last_size, self._last_seconds = len(group), time.perf_counter() - began
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
        with self._has_come:
            while self._waiting:
                calls += sum(len(cycle.records) for cycle in self._waiting[0].batch.cycles)
                if group and calls > _MOST_CALLS:
                    break
                group.append(self._waiting.popleft())
        return group


class _Waiting:
    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.turn = Lock()
        """Released once: when its commit has ended, or when it is the one who commits."""
        self.turn.acquire()
        self.group: Sequence[_Waiting] = ()
        """What it has committed."""
        self.error: Exception | None = StorageError("the commit was interrupted")
        """Until the commit has succeeded, so that nothing else can acknowledge the batch."""
