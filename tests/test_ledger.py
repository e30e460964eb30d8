"""The ledger of one process."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from agentsight_tokens import ledger as module
from agentsight_tokens.errors import InvalidScopeError
from agentsight_tokens.journal import Journal, segments
from agentsight_tokens.ledger import Ledger
from tests.records import AT, call, encoded


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path)
    yield journal
    journal.close()


@pytest.fixture
def ledger(tmp_path: Path, journal: Journal) -> Iterator[Ledger]:
    with Ledger(tmp_path, "journal", is_owner=True) as ledger:
        ledger.describe(["here", "there"], "test")
        yield ledger


def note(journal: Journal, sequence: int, *numbers: int, tracker: int = 1) -> None:
    for number in numbers:
        journal.append(tracker, sequence, encoded(call(number)))


def test_each_entry_is_taken_once(ledger: Ledger, journal: Journal) -> None:
    """Folding again, or in a ledger that is opened again, adds nothing."""
    note(journal, 1, 1, 2)
    ledger.fold()
    note(journal, 1, 3)
    ledger.fold()
    ledger.fold()

    assert ledger.summary({}).input_tokens == 6


def test_a_sealed_cycle_waits_for_each_destination(ledger: Ledger, journal: Journal) -> None:
    """Every destination gets the cycle, with the same key and the calls in their order."""
    note(journal, 1, 1, 2)
    note(journal, 2, 9)

    assert ledger.seal(1, sealed_by="send")

    (here,), (there,) = ledger.parcels("here"), ledger.parcels("there")
    assert here.cycle == there.cycle
    assert here.cycle.key == "journal:c:1"
    assert here.cycle.environment == "test"
    assert [record.input_tokens for record in here.cycle.records] == [1, 2]


def test_any_number_of_cycles_is_sealed_at_once(ledger: Ledger, journal: Journal) -> None:
    """A program that ends seals all its conversations in one commit."""
    for sequence in range(1, 301):
        note(journal, sequence, sequence)

    # Numbers as long as those of years, and more than a statement has room for.
    sequences = [*range(1, 301), *range(10**9, 10**9 + 200_000)]

    assert ledger.seal(*sequences, sealed_by="close") == 300
    assert ledger.pending("here") == 300


def test_sealing_again_changes_nothing(ledger: Ledger, journal: Journal) -> None:
    """A cycle is sealed once."""
    note(journal, 1, 1)
    ledger.seal(1, sealed_by="send")
    first = ledger.parcels("here")
    ledger.seal(1, sealed_by="recovery")

    assert ledger.parcels("here") == first
    assert ledger.pending() == ledger.pending("there") == 1


def test_a_cycle_without_calls_is_none(ledger: Ledger) -> None:
    """There is nothing to seal where nothing was counted."""
    assert not ledger.seal(7, sealed_by="send")
    assert ledger.pending() == 0


def test_recovery_uses_the_same_key(tmp_path: Path, ledger: Ledger, journal: Journal) -> None:
    """A cycle that its process did not seal gets the key that it would have had."""
    note(journal, 1, 1)
    note(journal, 2, 2)
    ledger.seal(2, sealed_by="send")
    with Ledger(tmp_path, "journal") as recovered:
        assert recovered.seal_the_rest(sealed_by="recovery") == 1
        assert recovered.seal_the_rest(sealed_by="recovery") == 0
        keys = {parcel.cycle.key for parcel in recovered.parcels("here")}

    assert keys == {"journal:c:1", "journal:c:2"}


def test_a_failed_seal_changes_nothing(
    ledger: Ledger, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk does not take it, the cycle can be sealed later."""
    note(journal, 1, 1)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_address", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ledger.seal(1, sealed_by="send")
    assert ledger.pending() == 0

    assert ledger.seal(1, sealed_by="send")
    assert ledger.pending() == ledger.pending("there") == 1


def test_large_cycles_are_delivered_in_parts(
    ledger: Ledger, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part has its own key, and the parts hold each call once."""
    monkeypatch.setattr(module, "PARCEL_CALLS", 2)
    note(journal, 1, 1, 2, 3, 4, 5)
    ledger.seal(1, sealed_by="send")

    cycles = [parcel.cycle for parcel in ledger.parcels("here")]

    assert [c.key for c in cycles] == ["journal:c:1:1-2", "journal:c:1:3-4", "journal:c:1:5-5"]
    assert [r.input_tokens for c in cycles for r in c.records] == [1, 2, 3, 4, 5]


def test_what_is_marked_is_done(ledger: Ledger, journal: Journal) -> None:
    """The state of a cycle is that of its worst parcel."""
    note(journal, 1, 1)
    ledger.seal(1, sealed_by="send")
    (here,), (there,) = ledger.parcels("here"), ledger.parcels("there")
    assert ledger.state_of(1) == ("pending", None)

    ledger.mark([here.id], "delivered")
    assert ledger.state_of(1) == ("pending", None)
    ledger.mark([there.id], "dead", reason="no")

    assert ledger.state_of(1) == ("dead", "no")
    assert (ledger.pending(), ledger.dead()) == (0, 1)


def test_a_parcel_is_halved_down_to_one_call(ledger: Ledger, journal: Journal) -> None:
    """Halves hold each call once; a single call cannot be halved."""
    note(journal, 1, 1, 2, 3)
    ledger.seal(1, sealed_by="send")
    (whole,) = ledger.parcels("here")

    assert ledger.split(whole.id)
    first, second = ledger.parcels("here")

    assert [len(first.cycle.records), len(second.cycle.records)] == [1, 2]
    assert not ledger.split(first.id)


def test_sums_follow_the_filters(ledger: Ledger, journal: Journal) -> None:
    """Calls are selected by scope, model, time, tracker and number."""
    journal.append(1, 1, encoded(call(1, model="a")))
    journal.append(1, 1, encoded(call(2, model="b", conversation="d")))
    journal.append(2, 2, encoded(call(4, model=None, cost_pico_usd=None)))

    assert ledger.summary({}).by_model.keys() == {"a", "b", "unknown"}
    assert ledger.summary({"model": "b"}).input_tokens == 2
    assert ledger.summary({"conversation_id": "d", "agent": None}).input_tokens == 2
    assert ledger.summary({}, tracker=2).input_tokens == 4
    assert ledger.summary({}, after=1).input_tokens == 6
    assert ledger.summary({"since": AT + timedelta(seconds=2)}).input_tokens == 6
    assert ledger.summary({"until": AT + timedelta(seconds=2)}).input_tokens == 1
    assert [r.input_tokens for r in ledger.history({"session_id": "c"})] == [1, 4]
    assert ledger.last_number() == 3
    whole = ledger.summary({})
    assert (whole.request_count, whole.unpriced_calls, whole.unpriced_tokens) == (3, 1, 12)
    assert not whole.cost_is_complete


def test_tags_are_filtered_one_by_one(ledger: Ledger, journal: Journal) -> None:
    """All tags that are named must be there."""
    scope = call().scope.replace(tags=("a", "b"))
    journal.append(1, 1, encoded(call(1, scope=scope)))

    assert ledger.summary({"tags": "a"}).request_count == 1
    assert ledger.summary({"tags": ("a", "b")}).request_count == 1
    assert ledger.summary({"tags": ("a", "c")}).request_count == 0
    assert ledger.history({})[0].scope.tags == ("a", "b")


@pytest.mark.parametrize("where", [{"who": 1}, {"since": AT.replace(tzinfo=None)}])
def test_wrong_filters_are_refused(ledger: Ledger, where: dict[str, object]) -> None:
    """Unknown names and naive times raise."""
    with pytest.raises(InvalidScopeError):
        ledger.summary(where)


def test_costs_beyond_64_bits_are_exact(ledger: Ledger, journal: Journal) -> None:
    """Sums of money go beyond 9.2 million USD."""
    for _ in range(3):
        journal.append(1, 1, encoded(call(1, cost_pico_usd=9 * 10**18 + 1)))

    assert ledger.summary({}).cost_pico_usd == 27 * 10**18 + 3


def test_damaged_entries_are_reported_once(
    tmp_path: Path, ledger: Ledger, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged line is passed, counted and named in the log."""
    note(journal, 1, 1)
    with segments(tmp_path)[0].open("ab") as file:
        file.write(b"rubbish\n")
    note(journal, 1, 3)

    with caplog.at_level(logging.ERROR):
        ledger.fold()
        ledger.fold()

    assert ledger.summary({}).input_tokens == 4
    assert ledger.damaged == 1
    assert len(caplog.records) == 1


def test_folded_segments_are_deleted(tmp_path: Path, ledger: Ledger, journal: Journal) -> None:
    """A segment goes once it is folded for good; the one in use stays."""
    note(journal, 1, 1)
    journal.rotate()
    note(journal, 1, 2)

    ledger.fold_for_good(journal.segment)

    assert [path.name for path in segments(tmp_path)] == [journal.segment]
    assert ledger.summary({}).input_tokens == 3


def test_a_closed_ledger_answers_nothing(tmp_path: Path) -> None:
    """After close() the file is closed."""
    ledger = Ledger(tmp_path, "journal", is_owner=True)
    ledger.close()

    with pytest.raises(sqlite3.ProgrammingError):
        ledger.summary({})


def test_who_looks_into_a_folder_makes_no_ledger(tmp_path: Path) -> None:
    """Neither a file nor a mark: a folder that is being deleted would stay with it."""
    with pytest.raises(sqlite3.OperationalError):
        Ledger(tmp_path, "journal")
    (tmp_path / "ledger.db").touch()
    with pytest.raises(sqlite3.DatabaseError):
        Ledger(tmp_path, "journal")

    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [("ledger.db", 0)]


def test_a_damaged_ledger_is_made_again_once_the_disk_takes_it(
    tmp_path: Path, ledger: Ledger, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it could not be at first costs nothing but time."""
    note(journal, 1, 7)
    ledger.seal(1, sealed_by="send")
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        connection.execute("DROP TABLE calls")
    with monkeypatch.context() as patch:
        patch.setattr("agentsight_tokens.ledger_file._make", full)
        for _ in range(2):
            with pytest.raises(sqlite3.Error):
                ledger.seal(1, sealed_by="send")

    assert ledger.seal(1, sealed_by="send") == 1
    assert ledger.summary({}).input_tokens == 7


def full(*_: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")


def test_what_nobody_asks_for_is_forgotten(ledger: Ledger, journal: Journal) -> None:
    """A living process keeps what is not delivered, and what its trackers may ask for."""
    for sequence in range(1, 7):
        note(journal, sequence, sequence)
        ledger.seal(sequence, sealed_by="send")
    waiting = [parcel.id for parcel in ledger.parcels("here") + ledger.parcels("there")]
    ledger.mark([id for id in waiting if id not in (3, 4)], "delivered")  # cycle 2 waits
    later = datetime.now(timezone.utc) + timedelta(seconds=1)

    assert ledger.prune({1: 0}, later) == 0
    assert ledger.prune({1: 4}, later - timedelta(days=1)) == 0
    assert ledger.prune({1: 4, 2: 0}, later) == 3
    assert ledger.summary({}).input_tokens == 2 + 5 + 6
    last = ledger.last_number()
    assert ledger.prune({}, later) == 1
    assert ledger.prune({1: last}, later) == 0
    assert ledger.summary({}).input_tokens == 2 + 6
    assert ledger.pending("here") == ledger.pending("there") == 1
    note(journal, 7, 7)
    assert ledger.last_number() > last
