"""Group commit: those who come while a commit runs share the next one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final, NamedTuple

from agentsight_tokens.cycle import Cycle
from agentsight_tokens.errors import StorageError, UnstorableError

from .call_row import CallRow
from .rollup import HOUR
from .tally import Group, Tally

__all__ = ["Batch", "GroupCommit", "batch_of", "tally_of"]

_MOST_CALLS: Final = 10_000
"""Of one commit, unless a single batch has more."""


class Batch(NamedTuple):
    """Cycles that one project delivers together."""

    project_id: int
    cycles: Sequence[Cycle]
    calls: Sequence[CallRow] = ()
    """Those of the cycles, made ready before it is their turn."""
    groups: Sequence[Group] = ()
    """What they add up to, as long as all of them count."""
    lines: Sequence[bytes] = ()
    """They themselves as PostgreSQL takes them, if it does."""


def batch_of(
    project_id: int,
    cycles: Sequence[Cycle],
    calls: Sequence[CallRow],
    lines: Sequence[bytes] = (),
) -> Batch:
    """Return cycles as they are committed, made ready while others' commits wait for the disk."""
    tally = Tally()
    tally.add(calls)
    return Batch(project_id, cycles, calls, tally.groups, lines)


def tally_of(batches: Sequence[Batch], rows: Sequence[CallRow], *, step: int = HOUR) -> Tally:
    """
    Return what is added to the tables of sums.

    Args:
        batches: Those of a commit.
        rows: The calls that count: those of the batches that were not there.
        step: See `Tally`.
    """
    tally = Tally(step=step)
    if step == HOUR and len(rows) == sum(len(batch.calls) for batch in batches):
        for batch in batches:
            tally.add_groups(batch.groups)
    else:
        tally.add(rows)
    return tally


class GroupCommit:
    """
    Commits the batches of many threads in few transactions.

    A commit costs a wait for the disk, however much is in it, and work that is the same for few
    calls and for many. Nobody waits for others to come: what has gathered while the disk was busy
    goes with the next commit.
    """

    def __init__(self, commit: Callable[[Sequence[Batch]], None], *, at_once: int = 1) -> None:
        """
        Set up the commits.

        Args:
            commit: Commits batches, all or none, and raises `UnstorableError` for what is in one.
            at_once: How many commits may run at the same time.
        """
        self._commit = commit
        self._lock = Lock()
        self._waiting: deque[_Waiting] = deque()
        self._free = at_once

    def submit(self, batch: Batch) -> None:
        """Return when a batch is committed; raise what its own commit raises."""
        mine = _Waiting(batch)
        try:
            with self._lock:
                self._waiting.append(mine)
                if self._free:
                    self._free -= 1
                    mine.group = self._take()
            if not mine.group:
                mine.turn.acquire()
            if mine.group:
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
        with self._lock:
            if mine in self._waiting:  # it was interrupted
                self._waiting.remove(mine)
            if mine.group:
                others = [each for each in mine.group if each is not mine]
                mine.group = ()  # no circle: it would keep all their calls in memory
                if mine.is_tried:
                    woken += others
                else:
                    self._waiting.extendleft(reversed(others))
                group = self._take()
                if group:
                    group[0].group = group
                    woken.append(group[0])
                else:
                    self._free += 1
        for each in woken:
            each.turn.release()

    def _commit_group(self, group: Sequence[_Waiting]) -> None:
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
        """Take the next ones to be committed, with the lock held."""
        group: list[_Waiting] = []
        calls = 0
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
        """What it is to commit, itself the first."""
        self.is_tried = False
        self.error: Exception | None = StorageError("the commit was interrupted")
        """Until the commit has succeeded, so that nothing else can acknowledge the batch."""
