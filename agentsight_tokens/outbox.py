"""
The outbox: the folders of all processes that share a data directory.

Each process writes to its own folder and holds a lock on it for as long as it lives, so
a folder whose lock is free belongs to a dead process and is adopted: what its journal still
holds is sealed under the keys that the process itself would have used.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from .faults import contained
from .ids import time_ordered_id
from .journal import Journal, segments
from .ledger import LEDGER_FILE, Ledger, Parcel

__all__ = ["FolderLock", "Outbox", "ProcessFolder"]

_LOCK_FILE: Final = "lock"
_logger: Final = logging.getLogger("agentsight_tokens")


class FolderLock:
    """An advisory lock on a file, freed by the kernel when the process dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def try_acquire(self) -> bool:
        """Take the lock if it is free."""
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock back; in a child after a fork, only let go of the parent's."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class ProcessFolder:
    """The files of this process."""

    def __init__(self, processes: Path) -> None:
        self.journal_id = time_ordered_id()
        self.path = processes / self.journal_id
        # Locked before it has its name: an adopter never sees it free.
        unnamed = processes / f".{self.journal_id}"
        unnamed.mkdir(parents=True, mode=0o700)
        self._lock = FolderLock(unnamed / _LOCK_FILE)
        self._lock.try_acquire()
        unnamed.rename(self.path)
        self.journal = Journal(self.path)
        self.ledger = Ledger(self.path, self.journal_id)

    def close(self) -> None:
        """Close the files, and delete them if everything in them was delivered."""
        is_done = self.journal.write_held()
        with contained("sealing what was open at the end"):
            is_done &= not self.ledger.seal_the_rest(sealed_by="close")
            is_done &= not self.ledger.pending() and not self.ledger.dead()
            if is_done:
                shutil.rmtree(self.path, ignore_errors=True)
        self.journal.close()
        self.ledger.close()
        self._lock.release()

    def forget_after_fork(self) -> None:
        """Let go of the parent's files in a child; SQLite forbids to close its handle there."""
        self.journal.close()
        self._lock.release()


class Outbox:
    """What all processes have sealed and nobody has acknowledged."""

    def __init__(self, directory: Path) -> None:
        self.processes = directory / "processes"
        self._ledgers: dict[str, Ledger] = {}

    def close(self) -> None:
        """Close the files that were opened to look into other folders."""
        for ledger in self._ledgers.values():
            ledger.close()
        self._ledgers.clear()

    def folders(self) -> list[Path]:
        """Return the folders of all processes, oldest first."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(p for p in self.processes.iterdir() if not p.name.startswith("."))
        return []

    def adopt(self, destination: str) -> int:
        """
        Seal what dead processes left open, and delete the folders that are done with.

        Args:
            destination: Where the cycles of a folder go that names no destination.
        """
        adopted = 0
        for folder in self.folders():
            lock = FolderLock(folder / _LOCK_FILE)
            with contained("adopting the files of a dead process"):
                if not folder.is_dir() or not lock.try_acquire():
                    continue
                try:
                    adopted += self._adopt_locked(folder, destination)
                finally:
                    lock.release()
        return adopted

    def pending(self, destination: str | None = None) -> int:
        """Return how many parcels wait, for one destination or for any."""
        return sum(ledger.pending(destination) for ledger in self._open_ledgers())

    def parcels(self, destination: str) -> Iterator[tuple[Ledger, Sequence[Parcel]]]:
        """Yield, a ledger at a time, the parcels that wait for a destination."""
        for ledger in self._open_ledgers():
            with contained("reading an outbox"):
                parcels = ledger.parcels(destination)
                if parcels:
                    yield ledger, parcels

    def _adopt_locked(self, folder: Path, destination: str) -> int:
        if not segments(folder) and not (folder / LEDGER_FILE).exists():
            self._delete(folder)
            return 0
        ledger = self._ledger(folder)
        if not ledger.destinations:
            ledger.describe((destination,), None)
        sealed = ledger.seal_the_rest(sealed_by="recovery")
        if not ledger.pending() and not ledger.dead():
            self._delete(folder)
        if sealed:
            _logger.info("%d open cycles of a process that died were sealed", sealed)
        return sealed

    def _delete(self, folder: Path) -> None:
        ledger = self._ledgers.pop(folder.name, None)
        if ledger is not None:
            ledger.close()
        shutil.rmtree(folder, ignore_errors=True)

    def _open_ledgers(self) -> list[Ledger]:
        folders = {f.name: f for f in self.folders() if (f / LEDGER_FILE).exists()}
        for name in self._ledgers.keys() - folders.keys():
            self._ledgers.pop(name).close()
        found = []
        for folder in folders.values():
            with contextlib.suppress(sqlite3.OperationalError):  # deleted by another adopter
                found.append(self._ledger(folder))
        return found

    def _ledger(self, folder: Path) -> Ledger:
        if folder.name not in self._ledgers:
            self._ledgers[folder.name] = Ledger(folder, folder.name)
        return self._ledgers[folder.name]
