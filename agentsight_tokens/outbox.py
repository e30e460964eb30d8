"""
The outbox: the folders of all processes that share a data directory.

Each process writes to its own folder and holds a lock on it for as long as it lives, so
a folder whose lock is free belongs to a dead process and is adopted: what its journal still
holds is sealed under the keys that the process itself would have used.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from .faults import contained
from .folder_lock import FolderLock
from .journal import segments
from .ledger import LEDGER_FILE, Ledger, Parcel, is_damage, is_full
from .process_folder import LOCK_FILE, OWN_FILES, delete_folder
from .set_aside import SET_ASIDE_MARK

__all__ = ["Outbox"]

_BEGUN: Final = {*OWN_FILES} - {LEDGER_FILE}
_reported: Final[set[Path]] = set()
_turns: Final[dict[Path, threading.Lock]] = {}
"""The lock of each directory, for the threads of this process."""
os.register_at_fork(after_in_child=_turns.clear)
_logger: Final = logging.getLogger("agentsight_tokens")


class Outbox:
    """
    What all processes have sealed and nobody has acknowledged.

    Args:
        directory: The data directory.
        memory: Returns the ledger of this process, if it is in memory.
    """

    def __init__(
        self, directory: Path, *, memory: Callable[[], Ledger | None] = lambda: None
    ) -> None:
        self.processes = directory / "processes"
        self._memory = memory
        self._ledgers: dict[str, Ledger] = {}
        self._finished: dict[str, int] = {}

    def close(self) -> None:
        """Close the files that were opened to look into other folders."""
        for ledger in self._ledgers.values():
            ledger.close()
        self._ledgers.clear()

    def folders(self) -> list[Path]:
        """Return the folders of all processes, oldest first."""
        with contextlib.suppress(OSError):
            return sorted(p for p in self.processes.iterdir() if not p.name.startswith("."))
        return []

    def adopt(
        self,
        destination: str,
        breathe: Callable[[], None] = lambda: None,
        *,
        patience: float = threading.TIMEOUT_MAX,
    ) -> int:
        """
        Seal what dead processes left open, and delete the folders that are done with.

        Args:
            destination: Where the cycles of a folder go that names no destination.
            breathe: Called now and then, so that other threads get their turn.
            patience: How many seconds to wait for another thread that does the same.

        Raises:
            TimeoutError: If that is not done in time.
            sqlite3.Error: If the disk is full.
        """
        # What another thread is about to seal waits for this destination too.
        turn = _turns.setdefault(self.processes, threading.Lock())
        if not turn.acquire(timeout=patience):
            raise TimeoutError("another thread adopts")
        try:
            return self._adopt_all(destination, breathe)
        finally:
            turn.release()

    def _adopt_all(self, destination: str, breathe: Callable[[], None]) -> int:
        adopted = 0
        full: sqlite3.Error | None = None
        for folder in self.folders():
            with contained("adopting the files of a dead process"):
                try:
                    adopted += self._adopt(folder, destination, breathe)
                except FileNotFoundError:
                    continue  # another adopter was quicker
                except sqlite3.Error as error:
                    if not is_full(error):
                        raise
                    full = error
        if full is not None:
            raise full
        return adopted

    def pending(self, destination: str | None = None) -> int:
        """Return how many parcels wait, for one destination or for the one most wait for."""
        return sum(ledger.pending(destination) for ledger in self.ledgers())

    def marks(self, destination: str) -> dict[str, int]:
        """Return up to where each ledger waits for a destination now, for `is_waiting`."""
        found = {each.journal_id: each.last_pending(destination) for each in self.ledgers()}
        return {journal_id: last for journal_id, last in found.items() if last}

    def is_waiting(self, destination: str, marks: Mapping[str, int]) -> bool:
        """Tell whether anything still waits of what waited when the marks were set."""
        return any(
            each.journal_id in marks and each.has_pending(destination, marks[each.journal_id])
            for each in self.ledgers()
        )

    def parcels(
        self,
        destination: str,
        *,
        is_leader: bool = True,
        calls: int = 1000,
        after: Mapping[str, int] = MappingProxyType({}),
        breathe: Callable[[], None] = lambda: None,
    ) -> Iterator[tuple[Ledger, Sequence[Parcel]]]:
        """
        Yield, a ledger at a time, the parcels that wait for a destination.

        Args:
            destination: The destination's identity.
            is_leader: Whether others' files are the caller's business too.
            calls: How many calls are yielded at once, about.
            after: The ids of parcels, by their ledger's journal; only later ones are yielded.
            breathe: Called now and then, so that other threads get their turn.
        """
        memory = self._memory()
        for ledger in self.ledgers() if is_leader else filter(None, [memory]):
            with contained("reading an outbox"):
                try:
                    parcels = ledger.parcels(
                        destination,
                        after=after.get(ledger.journal_id, 0),
                        calls=calls,
                        breathe=breathe,
                    )
                except sqlite3.DatabaseError as error:
                    if not is_damage(error):
                        raise
                    # Its process makes it again; an adopter does for a dead one.
                    _report(self.processes / ledger.journal_id, f"its ledger is damaged: {error}")
                    continue
                if parcels:
                    yield ledger, parcels

    def ledgers(self) -> list[Ledger]:
        """Return the ledgers of all folders, opened."""
        folders = {f.name: f for f in self.folders() if (f / LEDGER_FILE).exists()}
        for name in self._ledgers.keys() - folders.keys():
            self._forget(name)
        found = [ledger for ledger in [self._memory()] if ledger is not None]
        return [*found, *filter(None, map(self._readable, folders.values()))]

    def _readable(self, folder: Path) -> Ledger | None:
        try:
            return self._ledger(folder)
        except sqlite3.OperationalError:
            return None  # deleted by another adopter
        except sqlite3.DatabaseError as error:
            _report(folder, f"its ledger cannot be read: {error}")
            return None

    def _is_of_a_process(self, folder: Path) -> bool:
        """Tell whether a folder is one of ours; what is not is let be, and reported once."""
        if not folder.is_dir():
            _report(folder, "it is no folder of a process")
            return False
        names = {path.name for path in folder.iterdir() if SET_ASIDE_MARK not in path.name}
        if segments(folder) or LEDGER_FILE in names or names <= _BEGUN:
            # Of what was set aside the folder is the place; it needs no more looking at.
            return bool(names) or not any(folder.iterdir())
        _report(folder, "it is no folder of a process")
        return False

    def _adopt(self, folder: Path, destination: str, breathe: Callable[[], None]) -> int:
        lock = FolderLock(folder / LOCK_FILE)
        # Most are of a process that lives, so that is asked first: it takes the fewest steps.
        if lock.is_taken or not self._is_of_a_process(folder) or not lock.try_acquire():
            return 0
        try:
            if not segments(folder) and not (folder / LEDGER_FILE).exists():
                delete_folder(folder)
                return 0
            ledger = self._ledger(folder, is_owner=True)
            try:
                return self._finish(folder, ledger, destination, breathe)
            finally:
                ledger.is_owner = False
        finally:
            lock.release()

    def _finish(
        self, folder: Path, ledger: Ledger, destination: str, breathe: Callable[[], None]
    ) -> int:
        sealed = 0
        # A ledger that was made again is empty, and begins with the journal anew.
        while self._finished.get(folder.name) != (times_made_again := ledger.times_made_again):
            if not ledger.destinations:
                ledger.describe((destination,), None)
            ledger.fold(breathe)
            sealed += ledger.seal_the_rest(sealed_by="recovery", breathe=breathe)
            self._finished[folder.name] = times_made_again
        if ledger.is_done():
            delete_folder(folder, ledger)
            self._forget(folder.name)
        if sealed:
            _logger.info("%d open cycles of a process that died were sealed", sealed)
        return sealed

    def _forget(self, name: str) -> None:
        self._finished.pop(name, None)
        ledger = self._ledgers.pop(name, None)
        if ledger is not None:
            ledger.close()

    def _ledger(self, folder: Path, *, is_owner: bool = False) -> Ledger:
        ledger = self._ledgers.get(folder.name)
        if ledger is not None and not ledger.is_of(folder / LEDGER_FILE):
            self._forget(folder.name)
            ledger = None
        if ledger is None:
            ledger = self._ledgers[folder.name] = Ledger(folder, folder.name, is_owner=is_owner)
        ledger.is_owner = is_owner
        return ledger


def _report(path: Path, what: str) -> None:
    if path not in _reported:
        _reported.add(path)
        _logger.error("%s: %s; it is left as it is", path, what)
