"""The outbox and the sender."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentsight_tokens.destinations import Destination
from agentsight_tokens.errors import (
    DestinationUnauthorizedError,
    DestinationUnavailableError,
)
from agentsight_tokens.folder_lock import FolderLock
from agentsight_tokens.outbox import Outbox
from agentsight_tokens.process_folder import ProcessFolder
from agentsight_tokens.sender import Sender
from tests.records import Collector, call, encoded


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[ProcessFolder]:
    folder = ProcessFolder(tmp_path / "processes")
    folder.ledger.describe(["collector"], None)
    yield folder
    folder.close()


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Destination], Sender]]:
    started = []

    def start(destination: Destination) -> Sender:
        sender = Sender(tmp_path, destination)
        started.append(sender)
        sender.start()
        return sender

    yield start
    for sender in started:
        sender.stop()


def seal(folder: ProcessFolder, sequence: int, *numbers: int) -> None:
    for number in numbers:
        folder.journal.append(1, sequence, encoded(call(number)))
    folder.ledger.seal(sequence, sealed_by="send")


def drained(sender: Sender, seconds: float = 20) -> bool:
    return sender.drain(time.monotonic() + seconds)


def test_what_is_sealed_is_delivered(
    folder: ProcessFolder, collector: Collector, start: Callable[[Destination], Sender]
) -> None:
    """Cycles arrive, and a delivered one is not delivered again."""
    seal(folder, 1, 1, 2)
    sender = start(collector)
    assert drained(sender)
    seal(folder, 2, 4)
    assert drained(sender)

    assert [c.totals.input_tokens for c in collector.cycles] == [3, 4]
    assert folder.ledger.state_of(1) == ("delivered", None)


@pytest.mark.parametrize(
    "failure",
    [
        DestinationUnavailableError("down"),
        DestinationUnavailableError("busy", retry_after_seconds=0.05),
        DestinationUnauthorizedError("who are you?"),
    ],
)
def test_failures_are_tried_again(
    folder: ProcessFolder,
    collector: Collector,
    start: Callable[[Destination], Sender],
    failure: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A destination that is away gets everything when it is back, and one warning is logged."""
    collector.failures = [failure, failure]
    seal(folder, 1, 1)
    with caplog.at_level(logging.WARNING):
        sender = start(collector)
        assert drained(sender)

    assert collector.input_tokens() == 1
    assert sender.last_error is None
    assert len([r for r in caplog.records if "does not take deliveries" in r.message]) == 1


@pytest.mark.parametrize("refuses_by_record", [True, False])
def test_a_poisonous_call_is_set_aside_alone(
    folder: ProcessFolder,
    collector: Collector,
    start: Callable[[Destination], Sender],
    refuses_by_record: bool,
) -> None:
    """Of a thousand calls the one that is refused is kept aside, the others arrive."""
    collector.poison = {500}
    collector.refuses_by_record = refuses_by_record
    seal(folder, 1, *range(1, 900))
    seal(folder, 2, *range(900, 1001))
    sender = start(collector)
    assert drained(sender)

    assert collector.input_tokens() == sum(range(1, 1001)) - 500
    assert folder.ledger.dead() == 1
    assert folder.ledger.state_of(1)[0] == "dead"
    assert folder.ledger.state_of(2)[0] == "delivered"


@pytest.mark.parametrize("failure", [DestinationUnavailableError("down"), ZeroDivisionError()])
@pytest.mark.parametrize("poison", [frozenset(), {1700}])
def test_a_backlog_arrives_once_in_its_order(
    folder: ProcessFolder,
    collector: Collector,
    start: Callable[[Destination], Sender],
    failure: Exception,
    poison: set[int],
) -> None:
    """What is read while a delivery is under way is sent after it, also when that failed."""
    collector.failures = [failure]
    collector.poison = poison
    for sequence in range(1, 8):
        seal(folder, sequence, *range(sequence * 600, sequence * 600 + 600))
    sender = start(collector)
    assert drained(sender)

    arrived = [record.input_tokens for cycle in collector.cycles for record in cycle.records]
    assert sorted(arrived) == sorted({*range(600, 4800)} - poison)
    assert poison or arrived == sorted(arrived)
    assert folder.ledger.dead() == len(poison)


def test_a_drain_waits_for_what_another_thread_adopts(
    tmp_path: Path, start: Callable[[Destination], Sender]
) -> None:
    """What a dead process left for two destinations waits for both before it is sealed."""
    folder = ProcessFolder(tmp_path / "processes")
    folder.ledger.describe(["another", "collector"], None)
    folder.journal.append(1, 1, encoded(call(5)))
    folder.ledger.close()
    folder.forget_after_fork()
    adopting, may_go_on = threading.Event(), threading.Event()

    def breathe() -> None:
        adopting.set()
        assert may_go_on.wait(20)

    other = Outbox(tmp_path)
    adopter = threading.Thread(target=other.adopt, args=("another", breathe))
    adopter.start()
    assert adopting.wait(20)
    collector = Collector()
    sender = start(collector)
    found: list[tuple[bool, int]] = []
    drain = threading.Thread(
        target=lambda: found.append((drained(sender), collector.input_tokens()))
    )
    drain.start()
    drain.join(1.5)
    may_go_on.set()
    adopter.join()
    drain.join()
    other.close()

    assert found == [(True, 5)]


def test_a_fault_of_a_destination_stops_nothing(
    folder: ProcessFolder, collector: Collector, start: Callable[[Destination], Sender]
) -> None:
    """Whatever a destination raises, the sender goes on."""
    collector.failures = [ZeroDivisionError()]
    seal(folder, 1, 1)

    assert drained(start(collector))


def test_one_sender_of_a_destination_delivers(
    folder: ProcessFolder, start: Callable[[Destination], Sender]
) -> None:
    """The second sender waits for the first, and takes over when it stops."""
    first, second = Collector(), Collector()
    leader = start(first)
    assert drained(leader)
    follower = start(second)
    seal(folder, 1, 1)
    assert drained(follower)
    leader.stop()
    seal(folder, 2, 2)
    assert drained(follower)

    assert (first.input_tokens(), second.input_tokens()) == (1, 2)
    assert first.is_closed


def test_time_that_is_up_is_told(
    folder: ProcessFolder, collector: Collector, start: Callable[[Destination], Sender]
) -> None:
    """A drain that does not succeed says so."""
    collector.failures = [DestinationUnavailableError("down", retry_after_seconds=60)]
    seal(folder, 1, 1)

    assert not drained(start(collector), 0.3)


@pytest.mark.parametrize(("seconds", "most"), [(0, 3), (0.3, 1)])
def test_looks_that_find_nothing_take_little_of_the_time(
    tmp_path: Path, collector: Collector, seconds: float, most: int
) -> None:
    """One of a busy program, which waits for the interpreter at each step, is long."""
    looks: list[float] = []

    def progress() -> None:
        looks.append(time.monotonic())
        time.sleep(seconds)

    sender = Sender(tmp_path, collector, on_progress=progress)
    sender.start()
    time.sleep(2.2)
    sender.stop()
    before_the_stop = [look for look in looks if look < looks[0] + 2]
    assert 1 <= len(before_the_stop) <= most


def test_the_living_are_not_adopted(tmp_path: Path, folder: ProcessFolder) -> None:
    """A folder whose process lives is left alone."""
    folder.journal.append(1, 1, encoded(call(1)))

    assert Outbox(tmp_path).adopt("collector") == 0


def test_the_dead_are_adopted_once(
    tmp_path: Path, collector: Collector, start: Callable[[Destination], Sender]
) -> None:
    """What a killed process left open is delivered once, and then its folder goes."""
    code = f"""
import os, sys
from pathlib import Path
from agentsight_tokens.process_folder import ProcessFolder
from tests.records import call, encoded
folder = ProcessFolder(Path({str(tmp_path)!r}) / "processes")
for number in (1, 2):
    folder.journal.append(1, 1, encoded(call(number)))
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parent.parent)
    outbox = Outbox(tmp_path)
    (orphan,) = outbox.folders()

    sender = start(collector)
    assert drained(sender)
    assert drained(sender)

    (cycle,) = collector.cycles
    assert cycle.key == f"{orphan.name}:c:1"
    assert cycle.sealed_by == "recovery"
    assert [record.input_tokens for record in cycle.records] == [1, 2]
    assert outbox.folders() == []


def test_refused_calls_outlive_their_process(
    tmp_path: Path, collector: Collector, start: Callable[[Destination], Sender]
) -> None:
    """A folder with a call that was set aside is kept."""
    collector.poison = {1}
    folder = ProcessFolder(tmp_path / "processes")
    folder.ledger.describe(["collector"], None)
    seal(folder, 1, 1)
    sender = start(collector)
    assert drained(sender)
    folder.close()
    assert drained(sender)

    assert len(Outbox(tmp_path).folders()) == 1


def test_an_empty_folder_goes(tmp_path: Path) -> None:
    """A dead process that wrote nothing leaves nothing."""
    empty = tmp_path / "processes" / "empty"
    empty.mkdir(parents=True)

    Outbox(tmp_path).adopt("collector")

    assert not empty.exists()


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    """A lock that is held is not taken, until it is released."""
    first, second = FolderLock(tmp_path / "lock"), FolderLock(tmp_path / "lock")
    assert first.try_acquire()
    assert first.try_acquire()
    assert not second.try_acquire()
    first.release()

    assert second.try_acquire()
    second.release()
