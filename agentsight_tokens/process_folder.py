"""
The folder of one process: its lock, its journal and its ledger.

A folder whose lock is free belongs to a dead process. Where no folder can be made, everything
is kept in memory up to a bound, until one can.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from .errors import StorageWarning
from .faults import contained, warn
from .folder_lock import FolderLock
from .ids import time_ordered_id
from .journal import HELD_LIMIT, Journal, segments
from .ledger import LEDGER_FILE, Ledger
from .ledger_file import LEDGER_FILES
from .process_note import NOTE_FILE
from .set_aside import set_aside

__all__ = ["LOCK_FILE", "OWN_FILES", "ProcessFolder", "delete_folder"]

LOCK_FILE: Final = "lock"
OWN_FILES: Final = (
    *LEDGER_FILES,
    NOTE_FILE,
    f".{NOTE_FILE}",
    LOCK_FILE,
)
_logger: Final = logging.getLogger("agentsight_tokens")


class ProcessFolder:
    """
    The files of this process.

    Args:
        processes: Where the folders of all processes are.
        destinations: The identities of the destinations that this process delivers to.
        environment: production, staging, ... as the configuration says.
    """

    def __init__(
        self,
        processes: Path,
        destinations: Sequence[str] = (),
        environment: str | None = None,
    ) -> None:
        self.journal_id = time_ordered_id()
        self.path = processes / self.journal_id
        self._note = (tuple(destinations), environment)
        self._lock = FolderLock(self.path / LOCK_FILE)
        self.journal = Journal(self.path)
        try:
            self._make()
            self.ledger = Ledger(self.path, self.journal_id, is_owner=True)
            self.ledger.held = self.journal.held_lines
            self.ledger.describe(*self._note)
        except (OSError, sqlite3.Error) as error:
            self._keep_in_memory(error)

    @property
    def is_settled(self) -> bool:
        """Whether everything is written to files that are there."""
        return (
            not self.journal.is_in_memory
            and not self._lock.is_void
            and not self.journal.is_missing
            and self.ledger.is_of(self.path / LEDGER_FILE)
        )

    def settle(self, order: AbstractContextManager[object]) -> bool:
        """
        Write to disk what is in memory only, or in files that somebody deleted.

        Args:
            order: What keeps calls from being appended meanwhile.

        Returns:
            Whether it is done; otherwise it can be tried again.
        """
        try:
            with order:
                if self._lock.is_void:
                    self._lock.release()
                if not self._lock.is_held:
                    self._make()
                if self.journal.is_missing:
                    self.journal.write_again()
                if not self.ledger.is_of(self.path / LEDGER_FILE):
                    _make_way(self.path, self.ledger)
                    self.ledger.fold()
                    self.ledger.move_to(self.path)
                self.ledger.describe(*self._note)
                self.journal.is_in_memory = False
        except (OSError, sqlite3.Error):
            return False
        _logger.warning("%s can be written now, and everything is in it", self.path)
        return True

    def seal_the_rest(self, deadline: float) -> bool:
        """
        Seal every cycle that is not.

        Args:
            deadline: The time of the monotonic clock at which to give up: the rest is sealed by
                whoever adopts the folder.

        Returns:
            Whether all are sealed.
        """

        def look_at_the_clock() -> None:
            if time.monotonic() > deadline:
                raise TimeoutError

        try:
            self.ledger.seal_the_rest(sealed_by="close", breathe=look_at_the_clock)
        except TimeoutError:
            return False
        return True

    def close(self, deadline: float = math.inf) -> None:
        """Close the files, and delete them if everything in them was delivered."""
        is_done = self.journal.write_held()
        with contained("sealing what was open at the end"):
            is_done &= self.seal_the_rest(deadline)
            if self.journal.lost:
                self.ledger.note_lost(self.journal.lost)
            if self.journal.is_in_memory:
                self._report_loss()
            elif is_done and self.ledger.is_done():
                delete_folder(self.path, self.ledger)
        self.journal.close()
        self.ledger.close()
        self._lock.release()

    def forget_after_fork(self) -> None:
        """Let go of the parent's files in a child; SQLite forbids to close its handle there."""
        self.journal.close()
        self._lock.release()

    def _make(self) -> None:
        if self.path.exists():  # only the lock was deleted
            self._acquire()
            return
        # Locked before it has its name: an adopter never sees it free.
        unnamed = self.path.with_name(f".{self.journal_id}")
        unnamed.mkdir(parents=True, mode=0o700, exist_ok=True)
        self._lock.moved(unnamed / LOCK_FILE)
        self._acquire()
        unnamed.rename(self.path)
        self._lock.moved(self.path / LOCK_FILE)
        _sync(self.path.parent)

    def _acquire(self) -> None:
        if not self._lock.try_acquire():
            raise OSError(f"somebody holds the lock in {str(self.path)!r}")

    def _keep_in_memory(self, error: Exception) -> None:
        warn(
            f"{str(self.path.parent)!r} cannot be written ({error}); up to {HELD_LIMIT:,} calls "
            "are held in memory and written when it can be",
            StorageWarning,
        )
        self.journal.is_in_memory = True
        self.ledger = Ledger(self.path, self.journal_id, in_memory=True)
        self.ledger.held = self.journal.held_lines
        self.ledger.take_held = self.journal.take_held
        self.ledger.describe(*self._note)

    def _report_loss(self) -> None:
        lost = self.journal.lost + self.journal.held
        lost += sum(waiting.calls for waiting in self.ledger.waiting())
        if lost:
            _logger.error(
                "%d calls could neither be delivered nor written to %s, and are lost",
                lost,
                self.path,
            )


def delete_folder(folder: Path, ledger: Ledger | None = None) -> None:
    """
    Delete the files of a process that are done with; what is damaged or not ours stays.

    Args:
        folder: The folder; its lock is held by the caller.
        ledger: Its ledger, which is closed then.
    """
    if ledger is not None:
        for name, why in ledger.damaged_segments().items():
            set_aside(folder / name, why)
        _make_way(folder, ledger)
        ledger.close()
    for path in [*segments(folder), *(folder / name for name in OWN_FILES)]:
        with contextlib.suppress(OSError):
            path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def _make_way(folder: Path, ledger: Ledger) -> None:
    """Set a file aside that somebody has put in the place of an open ledger."""
    file = folder / LEDGER_FILE
    if file.exists() and not ledger.is_of(file):
        set_aside(file, "it took the place of an open ledger", companions=("-wal", "-shm"))


def _sync(directory: Path) -> None:
    """Make the names in a directory survive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
