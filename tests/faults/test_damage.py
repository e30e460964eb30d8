"""Files that are torn, corrupt or somebody else's: reported, set aside, never deleted."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.backend import Backend
from tests.faults.hosts import Hosts, eventually, log_of

# Records fifty calls of 1, 2, 4, ... tokens in a cycle each of which is not sent, and dies.
KILLED = """
import os, sys
from agentsight_tokens import ConversationTracker
tracker = ConversationTracker(conversation_id="c")
for number in range(50):
    tracker.track_token_usage(number + 1)
    if number == 19 and sys.argv[1] == "seal":
        tracker.send_tracked_data()
os.kill(os.getpid(), 9)
"""
WHOLE = sum(range(1, 51))
RECOVER = """
import logging, sys
logging.basicConfig(stream=sys.stderr)
from agentsight_tokens import ConversationTracker
with ConversationTracker() as tracker:
    assert tracker.flush(30)
"""


def killed(hosts: Hosts, url: str, how: str = "") -> Path:
    """Leave the folder of a dead process."""
    hosts.run(KILLED, how, fails=True, AGENTSIGHT_API_ENDPOINT=url)
    (folder,) = [p for p in (hosts.data / "processes").iterdir() if not p.name.startswith(".")]
    return folder


def recovered(hosts: Hosts, url: str) -> str:
    """Recover, and return the log."""
    host = hosts.start(RECOVER, AGENTSIGHT_API_ENDPOINT=url)
    host.communicate(timeout=60)
    assert host.returncode == 0, log_of(host)
    return log_of(host)


@pytest.mark.parametrize("damage", ["torn tail", "flipped byte", "rubbish between", "zeroes"])
def test_a_damaged_journal_costs_what_is_damaged(
    hosts: Hosts, backend: Backend, figure: Callable[[str], None], damage: str
) -> None:
    """The bad entry is passed and reported, the others arrive, and the file is kept."""
    folder = killed(hosts, backend.url)
    (journal,) = folder.glob("*.journal")
    content = bytearray(journal.read_bytes())
    lines = bytes(content).splitlines(keepends=True)
    middle = sum(map(len, lines[:25]))
    if damage == "torn tail":
        content = content[: -len(lines[-1]) // 2]
    elif damage == "flipped byte":
        content[middle + random.randrange(len(lines[25]) - 1)] ^= 0x04
    elif damage == "rubbish between":
        content[middle:middle] = b"\x00\xffrubbish\n"
    else:
        content[middle : middle + 100] = bytes(100)
    journal.write_bytes(content)
    log = recovered(hosts, backend.url)
    kept = list(folder.glob("*.journal.corrupt-*"))
    expected = {"torn tail": WHOLE - 50, "rubbish between": WHOLE}.get(damage, WHOLE - 26)

    figure(
        f"journal with {damage}: {backend.calls()} of 50 calls stored, "
        f"reported {'damaged' in log}, file kept {bool(kept)}"
    )
    assert backend.tokens() == expected
    assert "damaged" in log
    assert [path.read_bytes() for path in kept] == [content]


LEDGER_DAMAGE = {
    "garbage": lambda whole: random.Random(1).randbytes(len(whole)),
    "half of it": lambda whole: whole[: len(whole) // 2],
    "nothing": lambda whole: b"",
    "zeroed pages": lambda whole: whole[:4096] + bytes(len(whole) - 4096),
    "a text": lambda whole: b"Dear colleague,\n" * 500,
    "somebody's database": None,
}


@pytest.mark.parametrize("damage", LEDGER_DAMAGE)
@pytest.mark.parametrize("process", ["dead", "alive"])
def test_a_damaged_ledger_is_made_again(
    hosts: Hosts, backend: Backend, figure: Callable[[str], None], damage: str, process: str
) -> None:
    """It is set aside by name, and everything is folded from the journal once more."""
    if process == "dead":
        folder = killed(hosts, "http://127.0.0.1:1", "seal")
        (folder / "process.json").unlink()
        damage_ledger(folder, damage)
        log = recovered(hosts, backend.url)
    else:
        backend.stop()
        host = hosts.start(LIVING, AGENTSIGHT_API_ENDPOINT=backend.url)
        assert host.stdin
        assert host.stdout
        assert host.stdout.readline() == "ready\n"
        (folder,) = (hosts.data / "processes").iterdir()
        damage_ledger(folder, damage)
        backend.start()
        told, _ = host.communicate("go on\n", timeout=60)
        log = log_of(host)
        assert host.returncode == 0, log
        assert "Traceback" not in log
        assert told.strip() == str(WHOLE)
    kept = list(folder.glob("ledger.db.corrupt-*"))

    figure(
        f"ledger of a process that is {process} with {damage}: {50 - backend.calls()} of 50 lost, "
        f"kept as {kept[0].name[:24] if kept else 'nothing'}"
    )
    assert (backend.calls(), backend.tokens()) == (50, WHOLE)
    assert kept or damage == "nothing"
    assert not kept or "cannot be read" in log
    assert list(folder.glob("*.journal")) == []


LIVING = """
import logging, sys
logging.basicConfig(stream=sys.stderr)
from agentsight_tokens import ConversationTracker
tracker = ConversationTracker(conversation_id="c")
for number in range(40):
    tracker.track_token_usage(number + 1)
    if number == 19:
        tracker.send_tracked_data()
print("ready", flush=True)
sys.stdin.readline()
for number in range(40, 50):
    tracker.track_token_usage(number + 1)
print(tracker.get_usage().input_tokens)
assert tracker.send_tracked_data(wait=20).status == "delivered"
assert tracker.flush(20)
tracker.close()
"""


def damage_ledger(folder: Path, damage: str) -> None:
    # What stands in the write-ahead log is written to the file first, so that it is all there.
    with closing(sqlite3.connect(folder / "ledger.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path = folder / "ledger.db"
    make = LEDGER_DAMAGE[damage]
    if make is not None:
        # In place: a living process has this very file open.
        content = make(path.read_bytes())
        with path.open("r+b") as file:
            file.write(content)
            file.truncate(len(content))
    else:
        for ending in ("", "-wal", "-shm"):
            (folder / f"ledger.db{ending}").unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE calls (id TEXT)")
            connection.commit()


def test_a_damaged_store_holds_the_cycles(hosts: Hosts, figure: Callable[[str], None]) -> None:
    """The store is the user's: it is reported and left, and everything waits until it is back."""
    hosts.run(
        "from agentsight_tokens import ConversationTracker\n"
        "ConversationTracker().track_token_usage(1)\n"
    )
    store = hosts.data / "store.db"
    good = {p: p.read_bytes() for p in hosts.data.glob("store.db*")}
    store.write_bytes(b"rubbish" * 1000)
    host = hosts.start(
        "import logging, sys\n"
        "logging.basicConfig(stream=sys.stderr)\n"
        "from agentsight_tokens import ConversationTracker\n"
        "with ConversationTracker() as tracker:\n"
        "    tracker.track_token_usage(7)\n"
        "    result = tracker.send_tracked_data(wait=1)\n"
        "    print(result.status, result.error)\n"
    )
    told, _ = host.communicate(timeout=30)
    log = log_of(host)
    assert store.read_bytes() == b"rubbish" * 1000
    for path, content in good.items():
        path.write_bytes(content)
    hosts.recover()

    figure(f"store damaged: {told.strip()}; after its repair {hosts.stored()}")
    assert told.startswith("queued the embedded store")
    assert "waits on disk" in log
    assert "Traceback" not in log
    assert sum(tokens for _, tokens in hosts.stored().values()) == 8


def test_foreign_files_are_left(
    hosts: Hosts, backend: Backend, figure: Callable[[str], None]
) -> None:
    """What others put into the data directory is reported and neither read nor deleted."""
    processes = hosts.data / "processes"
    foreign = [
        processes / "notes.txt",
        processes / "holiday" / "picture.jpg",
        processes / "0123" / "lock",
        hosts.data / "unknown.db",
    ]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
    (processes / "0123" / "letter.txt").write_text("mine")
    folder = killed_beside(hosts, backend.url)
    (folder / "mine.txt").write_text("mine")
    log = recovered(hosts, backend.url)

    figure(f"foreign files: {backend.calls()} of 50 stored, all foreign files left")
    assert backend.calls() == 50, log
    assert all(path.read_bytes() == b"mine" for path in foreign)
    assert (folder / "mine.txt").read_text() == "mine"
    assert 3 <= log.count("left as it is") <= 4
    assert eventually(lambda: {p.name for p in folder.iterdir()} == {"mine.txt"})


def killed_beside(hosts: Hosts, url: str) -> Path:
    before = set((hosts.data / "processes").iterdir())
    hosts.run(KILLED, "", fails=True, AGENTSIGHT_API_ENDPOINT=url)
    (folder,) = set((hosts.data / "processes").iterdir()) - before
    return folder
