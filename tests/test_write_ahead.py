"""SQLite files that several programs open for the first time at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from agentsight_tokens.backend.store import SQLiteStore

ROUNDS = 30
PROGRAMS = 4


def test_a_store_waits_for_who_makes_it_too(tmp_path: Path) -> None:
    """SQLite refuses the switch to a write-ahead log at once, whatever the timeout is."""
    begin = Barrier(PROGRAMS)

    def opened(number: int) -> list[tuple[int]]:
        begin.wait(30)
        with SQLiteStore(tmp_path / f"{number // PROGRAMS}.db") as store:
            return store.rows("SELECT COUNT(*) FROM calls")

    with ThreadPoolExecutor(PROGRAMS) as programs:
        assert list(programs.map(opened, range(ROUNDS * PROGRAMS))) == [[(0,)]] * (
            ROUNDS * PROGRAMS
        )
