"""SQLiteStore: the budgets of one machine, in a file that its processes share."""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Final, NamedTuple

from agentsight_tokens.errors import StorageError
from agentsight_tokens.forks import rest_while_forking
from agentsight_tokens.ids import time_ordered_id
from agentsight_tokens.write_ahead import write_ahead

from .reservation import Reservation
from .store import Clock, Counts, Refusal, Sightings, Used, first_refusal, seconds_by
from .windows import Window, WindowSet

__all__ = ["BUDGETS_FILE", "SQLiteStore"]

BUDGETS_FILE: Final = "budgets.db"
"""The store's file within a data directory."""

_PRUNED_EVERY: Final = 2000
_NOTHING: Final = (0, 0, 0, 0)
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS windows (
  id TEXT PRIMARY KEY, used_tokens INTEGER NOT NULL, used_pico INTEGER NOT NULL,
  held_tokens INTEGER NOT NULL, held_pico INTEGER NOT NULL, keep_until REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (
  id TEXT PRIMARY KEY, until REAL NOT NULL, tokens INTEGER NOT NULL, pico INTEGER NOT NULL,
  windows TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alerts (
  id TEXT PRIMARY KEY, keep_until REAL NOT NULL
) STRICT, WITHOUT ROWID;
"""

_UPDATE: Final = """
UPDATE windows SET used_tokens = used_tokens + ?, used_pico = used_pico + ?,
  held_tokens = held_tokens + ?, held_pico = held_pico + ?"""
_UPSERT: Final = """
INSERT INTO windows VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
  used_tokens = used_tokens + excluded.used_tokens, used_pico = used_pico + excluded.used_pico,
  held_tokens = held_tokens + excluded.held_tokens, held_pico = held_pico + excluded.held_pico,
  keep_until = max(keep_until, excluded.keep_until)"""

_Run = Callable[..., sqlite3.Cursor]


class _Prepared(NamedTuple):
    """The statements for windows, made once for each plan."""

    names: list[str]
    """The ids of the windows."""
    all_names: list[str]
    """The same, and the earlier slices of those that slide."""
    lines: str
    """What a lease says of the windows that it holds."""
    select: str
    update: str
    are_there: bool = False
    """Whether the file was seen to have a row of each window."""


class SQLiteStore:
    """
    Keeps budgets in an SQLite file. Safe to use from several threads and processes.

    What is settled survives the death of a process; a power cut may take the last moments.

    Args:
        path: The file; it and its directory are made when they are first used.
        clock: Tells the time; the machine's when None.
        timeout_seconds: How long to wait for other processes.
    """

    is_remote = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        timeout_seconds: float = 5.0,
    ) -> None:
        self._path = Path(path).expanduser()
        self.now = seconds_by(clock)
        self._timeout = timeout_seconds
        self._connection: sqlite3.Connection | None = None
        self.forget_after_fork()
        rest_while_forking(self)

    def rest(self) -> None:
        """Leave nothing open: SQLite's locks in memory would be held in the child for ever."""
        self._lock.acquire()
        self.close()

    def resume(self) -> None:
        """Go on in the parent."""
        self._lock.release()

    def forget_after_fork(self) -> None:
        """Begin anew in a child, with what the file says."""
        self._lock = RLock()
        self._is_busy = False
        self._late: deque[tuple[Reservation, int, int]] = deque()
        self._sightings = Sightings()
        self._settlements = 0

    def reserve(self, reservation: Reservation) -> Refusal | None:
        """Hold what the reservation asks for; None if it fits."""
        tokens, pico, windows = reservation.tokens, reservation.pico_usd, reservation.windows
        with self._transaction() as run:
            refusal = first_refusal(windows, _counts(run, windows), tokens, pico)
            if refusal is not None and _end_leases(run, self.now()):
                refusal = first_refusal(windows, _counts(run, windows), tokens, pico)
            if refusal is None:
                _hold(run, reservation)
        reservation.is_held = refusal is None
        return refusal

    def settle(self, reservation: Reservation, tokens: int, pico_usd: int) -> Sequence[Used]:
        """Put what was used in the place of the hold; empty if it was settled before."""
        with self._lock:
            if reservation.is_settled:
                return ()
            if self._is_busy:  # by this thread: the garbage collector ended a stream
                reservation.is_settled = True
                self._late.append((reservation, tokens, pico_usd))
                return ()
            return self._settle(reservation, tokens, pico_usd)

    def renew(self, reservation: Reservation) -> None:
        """Hold the reservation for longer, again if the hold had ended."""
        with self._transaction() as run:
            until = "UPDATE leases SET until = ? WHERE id = ?"
            if not run(until, (reservation.lease_until, reservation.id)).rowcount:
                _hold(run, reservation)

    def add(self, windows: WindowSet, tokens: int, pico_usd: int) -> Sequence[Used]:
        """Count what nothing was held for; return what is used in each window."""
        with self._transaction() as run:
            _change(run, windows, (tokens, pico_usd, 0, 0))
            used = _used(run, windows)
        self._sightings.note(windows, used)
        return used

    def read(self, windows: WindowSet) -> Sequence[Counts]:
        """Return what is counted in each window, holds whose lease has ended aside."""
        with self._transaction() as run:
            _end_leases(run, self.now())
            return _counts(run, windows)

    def seen(self, window: Window) -> Used:
        """Return what this process last saw used in a window."""
        return self._sightings.of(window)

    def claim(self, window: Window, alert: str) -> bool:
        """Return True to the one who is the first to ask for an alert of a window."""
        claim = "INSERT OR IGNORE INTO alerts VALUES (?, ?)"
        with self._transaction() as run:
            done = run(claim, (f"{window.alert_id} {alert}", window.keep_until))
            return done.rowcount == 1

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _settle(self, reservation: Reservation, tokens: int, pico_usd: int) -> Sequence[Used]:
        windows = reservation.windows
        with self._transaction() as run:
            is_held = run("DELETE FROM leases WHERE id = ?", (reservation.id,)).rowcount
            held = (reservation.tokens, reservation.pico_usd) if is_held else (0, 0)
            _change(run, windows, (tokens, pico_usd, -held[0], -held[1]))
            used = _used(run, windows)
        reservation.is_settled = True
        self._sightings.note(windows, used)
        self._prune_now_and_then()
        return used

    def _prune_now_and_then(self) -> None:
        self._settlements += 1
        if self._settlements % _PRUNED_EVERY:
            return
        now = self.now()
        with self._transaction() as run:
            _end_leases(run, now)
            # One with a hold is in use, whatever its time.
            past = "DELETE FROM windows WHERE keep_until < ? AND held_tokens = 0 AND held_pico = 0"
            run(past, (now,))
            run("DELETE FROM alerts WHERE keep_until < ?", (now,))

    @contextmanager
    def _transaction(self) -> Iterator[_Run]:
        """Run statements as one; what fails in the file is a `StorageError`."""
        with self._lock:
            self._is_busy = True
            try:
                connection = self._open()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection.execute
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
            except (sqlite3.Error, OSError) as error:
                raise StorageError(f"{str(self._path)!r} does not keep budgets: {error}") from error
            finally:
                self._is_busy = False
            if self._late:
                self._settle_late()

    def _settle_late(self) -> None:
        late = self._late.popleft()
        try:
            self._settle(*late)
        except StorageError:
            self._late.append(late)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connection = _connected(self._path, self._timeout)
        return self._connection


def _connected(path: Path, timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=timeout, isolation_level=None, check_same_thread=False
    )
    try:
        write_ahead(connection, seconds=timeout)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.executescript(_SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@lru_cache(maxsize=256)
def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _prepared(windows: WindowSet) -> _Prepared:
    found: _Prepared | None = windows.handle
    if found is None:
        names = [window.id for window in windows]
        all_names = [*names, *(name for window in windows for name in window.earlier)]
        found = windows.handle = _Prepared(
            names,
            all_names,
            "\n".join(names),
            f"SELECT * FROM windows WHERE id IN ({_marks(len(all_names))})",  # noqa: S608  # marks only
            f"{_UPDATE} WHERE id IN ({_marks(len(names))})",
        )
    return found


def _counts(run: _Run, windows: WindowSet) -> list[Counts]:
    """Return what is counted in each window, the slices of those that slide added up."""
    prepared = _prepared(windows)
    rows = {row[0]: row[1:5] for row in run(prepared.select, prepared.all_names)}
    counts = []
    for window in windows:
        row = rows.get(window.id, _NOTHING)
        if window.earlier:
            slices = [row, *(rows[name] for name in window.earlier if name in rows)]
            row = tuple(map(sum, zip(*slices, strict=True)))
        counts.append(Counts(*row))
    return counts


def _used(run: _Run, windows: WindowSet) -> list[Used]:
    return [counts[:2] for counts in _counts(run, windows)]


def _hold(run: _Run, reservation: Reservation) -> None:
    windows = reservation.windows
    if not reservation.id:
        reservation.id = time_ordered_id()
    tokens, pico = reservation.tokens, reservation.pico_usd
    run(
        "INSERT INTO leases VALUES (?, ?, ?, ?, ?)",
        (reservation.id, reservation.lease_until, tokens, pico, _prepared(windows).lines),
    )
    _change(run, windows, (0, 0, tokens, pico))


def _change(run: _Run, windows: WindowSet, by: tuple[int, int, int, int]) -> None:
    """Add to what is counted in windows; those that are not there begin at 0."""
    prepared = _prepared(windows)
    names, update = prepared.names, prepared.update
    if prepared.are_there:
        if run(update, (*by, *names)).rowcount == len(names):
            return
        run(update, (*[-count for count in by], *names))  # the file was emptied meanwhile
    for window in windows:
        run(_UPSERT, (window.id, *by, window.keep_until))
    windows.handle = prepared._replace(are_there=True)


def _end_leases(run: _Run, now: float) -> bool:
    """Give back what is held beyond its lease; return whether there was any."""
    ended = run("SELECT id, tokens, pico, windows FROM leases WHERE until <= ?", (now,)).fetchall()
    for name, tokens, pico, windows in ended:
        names = windows.split("\n")
        run(f"{_UPDATE} WHERE id IN ({_marks(len(names))})", (0, 0, -tokens, -pico, *names))
        run("DELETE FROM leases WHERE id = ?", (name,))
    return bool(ended)
