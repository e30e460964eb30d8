"""Group commit: what comes during a commit goes with the next one."""

from __future__ import annotations

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


def submit_while_busy(disk: Disk, numbers: Sequence[int]) -> list[BaseException | None]:
    """Submit a batch, and others while its commit runs; return what each has raised."""
    group = GroupCommit(disk.commit)
    with ThreadPoolExecutor(len(numbers)) as threads:
        first = threads.submit(group.submit, Batch(numbers[0], []))
        while not disk.commits:
            pass
        rest = [threads.submit(group.submit, Batch(n, [])) for n in numbers[1:]]
        while len(group._waiting) < len(rest):
            pass
        disk.is_open.set()
        return [each.exception() for each in (first, *rest)]


def test_what_gathers_is_committed_together() -> None:
    """The first one does not wait; all others share one commit."""
    disk = Disk()

    assert submit_while_busy(disk, [1, 2, 3, 4]) == [None] * 4
    assert disk.commits[0] == [1]
    assert sorted(disk.commits[1]) == [2, 3, 4]


def test_what_cannot_be_stored_costs_no_other() -> None:
    """The batches of a commit that fails for what is in one are committed one by one."""
    disk = Disk()
    disk.bad = {3}

    raised = submit_while_busy(disk, [1, 2, 3, 4])

    assert [isinstance(error, UnstorableError) for error in raised] == [False, False, True, False]
    assert sorted(map(sorted, disk.commits[2:])) == [[2], [3], [4]]


def test_an_outage_is_everybodys() -> None:
    """Nobody is acknowledged, and nothing is tried again here."""
    disk = Disk()
    disk.error = OSError("gone")

    assert submit_while_busy(disk, [1, 2, 3]) == [disk.error] * 3
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
    commits: list[int] = []
    group = GroupCommit(lambda batches: commits.append(len(batches)))
    for number in range(4):
        group._waiting.append(_Waiting(Batch(number, [cycle("a", 1, 2, 3)])))
    group.submit(Batch(9, [cycle("b", *range(1, 9))]))

    assert commits == [1, 1, 1, 1, 1]
