"""Group commit: what comes during a commit goes with the next one."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from agentsight_tokens.backend.store.group_commit import Batch, GroupCommit, _Waiting
from agentsight_tokens.errors import UnstorableError
from tests.server_kit import cycle


class Disk:
    """Takes batches while it is open; some it never takes."""

    def __init__(self) -> None:
        self.commits: list[list[int]] = []
        self.is_open = Event()
        self.bad: set[int] = set()
        self.error: Exception | None = None

    def commit(self, batches: Sequence[Batch]) -> None:
        self.commits.append([batch.project_id for batch in batches])
        self.is_open.wait(30)
        if self.error is not None:
            raise self.error
        if self.bad & {batch.project_id for batch in batches}:
            raise UnstorableError("bad")


def submit_while_busy(disk: Disk, batches: Sequence[Batch]) -> list[BaseException | None]:
    """Submit a batch, and others while its commit runs; return what each has raised."""
    group = GroupCommit(disk.commit)
    with ThreadPoolExecutor(len(batches)) as threads:
        first = threads.submit(group.submit, batches[0])
        while not disk.commits:
            pass
        rest = [threads.submit(group.submit, batch) for batch in batches[1:]]
        while len(group._waiting) < len(rest):
            pass
        disk.is_open.set()
        return [each.exception() for each in (first, *rest)]


def of_projects(*numbers: int) -> list[Batch]:
    return [Batch(number, []) for number in numbers]


def test_what_gathers_is_committed_together() -> None:
    """The first one does not wait; all others share one commit."""
    disk = Disk()

    assert submit_while_busy(disk, of_projects(1, 2, 3, 4)) == [None] * 4
    assert disk.commits[0] == [1]
    assert sorted(disk.commits[1]) == [2, 3, 4]


def test_so_many_commits_run_at_once() -> None:
    """Those beyond wait, and go with the next one that has ended."""
    disk = Disk()
    group = GroupCommit(disk.commit, at_once=2)
    with ThreadPoolExecutor(4) as threads:
        submitted = [threads.submit(group.submit, batch) for batch in of_projects(1, 2, 3, 4)]
        while len(disk.commits) + len(group._waiting) < 4:
            pass
        at_once = len(disk.commits)
        disk.is_open.set()
        assert [each.exception() for each in submitted] == [None] * 4

    assert at_once == 2
    assert sorted(number for commit in disk.commits for number in commit) == [1, 2, 3, 4]
    group.submit(Batch(5, []))
    assert disk.commits[-1] == [5]


def test_what_cannot_be_stored_costs_no_other() -> None:
    """The batches of a commit that fails for what is in one are committed one by one."""
    disk = Disk()
    disk.bad = {3}

    raised = submit_while_busy(disk, of_projects(1, 2, 3, 4))

    assert [isinstance(error, UnstorableError) for error in raised] == [False, False, True, False]
    assert sorted(map(sorted, disk.commits[2:])) == [[2], [3], [4]]


def test_an_outage_is_everybodys() -> None:
    """Nobody is acknowledged, and nothing is tried again here."""
    disk = Disk()
    disk.error = OSError("gone")

    assert submit_while_busy(disk, of_projects(1, 2, 3)) == [disk.error] * 3
    assert len(disk.commits) == 2


def test_an_interrupted_commit_acknowledges_nobody() -> None:
    """Whatever ends the one who commits."""

    def interrupt(_: Sequence[Batch]) -> None:
        raise KeyboardInterrupt

    group = GroupCommit(interrupt)
    with pytest.raises(KeyboardInterrupt):
        group.submit(Batch(1, []))


def test_commits_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What gathers is shared out when it is much; one batch alone may be as large as it is."""
    monkeypatch.setattr("agentsight_tokens.backend.store.group_commit._MOST_CALLS", 5)
    disk = Disk()
    large = Batch(9, [cycle("b", *range(1, 9))])
    small = [Batch(number, [cycle("a", 1, 2, 3)]) for number in range(4)]

    assert submit_while_busy(disk, [*small, large]) == [None] * 5
    assert [len(commit) for commit in disk.commits] == [1, 1, 1, 1, 1]


def test_who_is_done_waits_for_no_other_commit() -> None:
    """While the next commit runs, everybody of the last one has gone on."""
    second, third = Event(), Event()
    commits: list[int] = []

    def commit(batches: Sequence[Batch]) -> None:
        commits.append(len(batches))
        if len(commits) < 3:
            assert (second, third)[len(commits) - 1].wait(30)
        else:
            assert is_over.wait(30)

    is_over = Event()
    group = GroupCommit(commit)
    with ThreadPoolExecutor(12) as threads:
        threads.submit(group.submit, Batch(0, []))
        together = [threads.submit(group.submit, batch) for batch in of_projects(*range(1, 10))]
        while len(group._waiting) < 9:
            pass
        second.set()
        while len(commits) < 2:
            pass
        last = threads.submit(group.submit, Batch(10, []))
        while not group._waiting:
            pass
        third.set()
        gone = [each.exception(30) for each in together]
        assert not last.done()
        is_over.set()

    assert gone == [None] * 9
    assert commits == [1, 9, 1]


def test_what_is_committed_is_let_go() -> None:
    """Nothing keeps a batch once it is committed, whether or not garbage is collected."""
    group = GroupCommit(lambda _: None)
    whole = cycle("a", 1)
    before = sys.getrefcount(whole)
    gc.disable()
    try:
        group.submit(Batch(1, [whole]))
        assert sys.getrefcount(whole) == before
    finally:
        gc.enable()


def test_who_is_interrupted_keeps_nobody_waiting() -> None:
    """One that has gone while it waited is not committed, and another one leads."""
    disk = Disk()
    group = GroupCommit(disk.commit)
    gone = _Waiting(Batch(2, []))
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(group.submit, Batch(1, []))
        while not disk.commits:
            pass
        group._waiting.append(gone)
        last = threads.submit(group.submit, Batch(3, []))
        while len(group._waiting) < 2:
            pass
        disk.is_open.set()
        first.result(30)
        # It is its turn to commit, and it leaves instead.
        while not gone.group:
            pass
        group._leave(gone)
        last.result(30)

    assert disk.commits == [[1], [3]]
