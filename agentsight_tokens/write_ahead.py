"""The switch of a SQLite file to a write-ahead log, which several processes may make at once."""

from __future__ import annotations

import sqlite3
import time

__all__ = ["write_ahead"]


def write_ahead(connection: sqlite3.Connection, *, seconds: float) -> None:
    """
    Let readers and a writer go on beside each other.

    Args:
        connection: To a file, or to nothing but memory, where it changes nothing.
        seconds: How long to wait for others that are about to make the same switch.

    Raises:
        sqlite3.Error: If they are not done by then.
    """
    deadline = time.monotonic() + seconds
    while not _is_switched(connection, is_last_try=time.monotonic() > deadline):
        time.sleep(0.01)


def _is_switched(connection: sqlite3.Connection, *, is_last_try: bool) -> bool:
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        # Whatever timeout a connection has, SQLite refuses this at once.
        if is_last_try or "locked" not in str(error):
            raise
        return False
    return True
