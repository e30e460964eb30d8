"""
The SQLite file of a ledger: opened, written to in transactions, and made again when damaged.

A file that is damaged or not ours is set aside and an empty one takes its place, but only by
the process that owns the folder: others would pull it away from under a living one.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import RLock
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from .calls import calls_table
from .forks import ForkGuard
from .set_aside import set_aside

__all__ = ["LEDGER_FILE", "LEDGER_FILES", "LedgerFile", "is_damage", "is_full", "repairing"]

LEDGER_FILE: Final = "ledger.db"
"""The ledger's file within the folder of its process."""
LEDGER_FILES: Final = tuple(
    f"{start}{LEDGER_FILE}{end}" for start in ("", ".") for end in ("", "-journal", "-wal", "-shm")
)
"""It and what SQLite has beside it; with a dot while it is made."""
BUSY_SECONDS: Final = 5.0
"""How long a statement waits for another process, which may be frozen in a transaction."""

_APPLICATION_ID: Final = 0x61677431
_FOREIGN: Final = "it is not a ledger of agentsight-tokens"
# sqlite3 tells the code of an error since Python 3.11 only.
_DAMAGE: Final = ("malformed", "not a database", "no such table", _FOREIGN)
_CALLS: Final = calls_table(
    "number INTEGER PRIMARY KEY",
    "tracker INTEGER NOT NULL",
    "sequence INTEGER NOT NULL",
    "size INTEGER NOT NULL",
)
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS folded (
  segment TEXT PRIMARY KEY, position INTEGER NOT NULL, last INTEGER NOT NULL,
  damaged INTEGER NOT NULL) STRICT;
{_CALLS};
CREATE INDEX IF NOT EXISTS calls_of_cycle ON calls (sequence, number);
CREATE TABLE IF NOT EXISTS cycles (
  sequence INTEGER PRIMARY KEY, conversation_id TEXT NOT NULL, sealed_by TEXT NOT NULL,
  sealed_at TEXT NOT NULL, environment TEXT) STRICT;
CREATE TABLE IF NOT EXISTS parcels (
  id INTEGER PRIMARY KEY, sequence INTEGER NOT NULL, part TEXT NOT NULL,
  first INTEGER NOT NULL, last INTEGER NOT NULL, calls INTEGER NOT NULL, size INTEGER NOT NULL,
  destination TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'pending', reason TEXT,
  whole INTEGER) STRICT;
CREATE INDEX IF NOT EXISTS parcels_of_cycle ON parcels (sequence);
CREATE INDEX IF NOT EXISTS parcels_pending ON parcels (destination, id, calls, size, whole)
  WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS parcels_dead ON parcels (id) WHERE state = 'dead';
"""
_P = ParamSpec("_P")
_T = TypeVar("_T")
_LedgerFile = TypeVar("_LedgerFile", bound="LedgerFile")


def is_full(error: BaseException | None) -> bool:
    """Tell whether SQLite failed because the disk is full."""
    return isinstance(error, sqlite3.Error) and "disk is full" in str(error)


def is_damage(error: sqlite3.Error) -> bool:
    """Tell whether SQLite failed because a file is damaged or not ours."""
    return any(sign in str(error) for sign in _DAMAGE)


def repairing(
    method: Callable[Concatenate[_LedgerFile, _P], _T],
) -> Callable[Concatenate[_LedgerFile, _P], _T]:
    """Lock a ledger for a method, which goes on with a new file if the old one is damaged."""

    def run(self: _LedgerFile, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        with self.lock:
            try:
                return method(self, *args, **kwargs)
            except sqlite3.DatabaseError as error:
                if not self.can_repair(error):
                    raise
                self.make_again(error)
                return method(self, *args, **kwargs)

    functools.update_wrapper(run, method)
    return run


class LedgerFile:
    """
    The SQLite file beside a journal. Safe to use from several threads and processes.

    Args:
        directory: The folder of the process.
        journal_id: The id of its journal.
        is_owner: Whether the caller holds the folder's lock, and so may set the file aside.
        in_memory: Whether there is no such folder yet, and everything is kept in memory.
    """

    def __init__(
        self,
        directory: Path,
        journal_id: str,
        *,
        is_owner: bool = False,
        in_memory: bool = False,
    ) -> None:
        self._directory = directory
        self.journal_id = journal_id
        self.is_owner = is_owner
        self._in_memory = in_memory
        self._inode = 0
        self.lock = RLock()
        self.times_made_again = 0
        """How often the file was damaged and an empty one took its place."""
        self._fork_guard = ForkGuard(self.lock)
        with self.lock:
            try:
                self._connection = self._connected()
            except sqlite3.DatabaseError as error:
                if not self.can_repair(error):
                    raise
                self._replace(error)

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            self._connection.close()

    def is_of(self, path: Path) -> bool:
        """Tell whether a file is the one that is open here, and none that took its place."""
        try:
            return self._inode == path.stat().st_ino
        except OSError:
            return False

    def move_to(self, directory: Path) -> None:
        """
        Go on in a file of another folder, with everything that is here.

        Raises:
            sqlite3.Error: If it cannot be written; then nothing has changed.
        """
        with self.lock:
            path = directory / LEDGER_FILE
            _make(path, self._connection.backup)
            moved = self._opened(path)
            self._connection.close()
            self._connection, self._directory, self._in_memory = moved, directory, False

    def checkpoint(self) -> None:
        """Give the space of the write-ahead log back."""
        with self.lock:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def can_repair(self, error: sqlite3.DatabaseError) -> bool:
        """Tell whether the file is damaged, and ours to make again."""
        return self.is_owner and is_damage(error)

    def make_again(self, error: sqlite3.DatabaseError) -> None:
        """Set the file aside and go on with an empty one."""
        damaged = self._connection  # found damaged once more if the disk takes no other now
        self._replace(error)
        damaged.close()

    def _replace(self, error: sqlite3.DatabaseError) -> None:
        path = self._directory / LEDGER_FILE
        if path.exists():
            set_aside(path, error, companions=("-wal", "-shm"))
        self._connection = self._connected()
        self.times_made_again += 1

    def _connected(self) -> sqlite3.Connection:
        if self._in_memory:
            connection = _connect(":memory:")
            _furnish(connection)
            return connection
        path = self._directory / LEDGER_FILE
        if self.is_owner and not path.exists():
            _make(path, _furnish)
        return self._opened(path)

    def _opened(self, path: Path) -> sqlite3.Connection:
        """Open a file that is there; looking into a folder must not make one."""
        connection = _connect(f"{path.absolute().as_uri()}?mode=rw")
        try:
            [(found,)] = connection.execute("PRAGMA application_id")
            if found != _APPLICATION_ID:
                raise sqlite3.DatabaseError(_FOREIGN)
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(_SCHEMA)  # an older version had less
            self._inode = path.stat().st_ino
        except FileNotFoundError as error:
            connection.close()
            raise sqlite3.OperationalError(f"{str(path)!r} was deleted") from error
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[None]:
        connection = self._connection
        if durable:
            connection.execute("PRAGMA synchronous=FULL")
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        finally:
            if durable:
                connection.execute("PRAGMA synchronous=NORMAL")

    def _noted(self, name: str) -> str:
        with self.lock:
            row = self._one("SELECT value FROM meta WHERE name = ?", name)
        return str(row[0]) if row else ""

    def _note(self, name: str, value: object) -> None:
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, str(value)))

    def _all(self, statement: str, *values: object) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()

    def _one(self, statement: str, *values: object) -> Any:
        return self._connection.execute(statement, values).fetchone()


def _connect(database: str) -> sqlite3.Connection:
    return sqlite3.connect(
        database, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def _furnish(connection: sqlite3.Connection) -> None:
    """Make the tables of an empty ledger, and mark it as ours."""
    connection.executescript(f"BEGIN; PRAGMA application_id = {_APPLICATION_ID}; {_SCHEMA} COMMIT;")


def _make(path: Path, fill: Callable[[sqlite3.Connection], object]) -> None:
    """
    Make a file whole before it has its name.

    Whoever else looked into it before would be in the way of the switch to a write-ahead log,
    which does not wait, or take it for somebody else's.
    """
    unnamed = path.with_name(f".{path.name}")
    for name in LEDGER_FILES:
        if name.startswith(unnamed.name):
            path.with_name(name).unlink(missing_ok=True)  # of a try that failed
    with contextlib.closing(sqlite3.connect(unnamed, isolation_level=None)) as connection:
        fill(connection)
        connection.execute("PRAGMA journal_mode=WAL")
    unnamed.rename(path)
