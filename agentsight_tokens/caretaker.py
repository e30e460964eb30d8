"""The caretaker: looks after the files of a process, so that its calls need not wait for that."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone
from threading import Lock
from typing import Final

from .breath import Breath
from .cycle_sealer import CycleSealer
from .faults import contained
from .process_folder import ProcessFolder

__all__ = ["SEGMENT_BYTES", "Caretaker"]

SEGMENT_BYTES: Final = 16_000_000
"""The size at which the journal begins a new file and folds the old one."""
LOOK_SECONDS: Final = 1.0
"""How often what seldom happens is looked for."""
PRUNE_SECONDS: Final = 600.0
FORGOTTEN_AFTER: Final = timedelta(days=1)
"""How long delivered calls that no tracker asks for stay in the ledger of a living process."""


class Caretaker:
    """
    Works in the threads of the senders, in one at a time.

    Args:
        lock: What orders the calls of this process.
        sealer: What seals its cycles.
        max_mb: How much may wait for delivery.
    """

    def __init__(
        self,
        lock: AbstractContextManager[object],
        sealer: CycleSealer,
        *,
        max_mb: int,
    ) -> None:
        self._lock = lock
        self._sealer = sealer
        self._keep_bytes = max_mb * 1_000_000
        self._turn = Lock()
        self._is_ended = False
        self._lost = 0
        self._looked_at = self._pruned_at = time.monotonic()

    def look_after(self, folder: ProcessFolder, trackers: Callable[[], Mapping[int, int]]) -> None:
        """
        Do what is due.

        Args:
            folder: The folder of this process.
            trackers: Returns the trackers that are still there; see `Ledger.prune`.
        """
        if not self._turn.acquire(blocking=False):
            return
        try:
            with contained("looking after the files"):
                self._do(folder, trackers)
        finally:
            self._turn.release()

    def end(self, timeout: float) -> None:
        """
        Look after nothing any more, so that the files can be closed.

        Args:
            timeout: How many seconds to wait at most for what is under way.
        """
        self._is_ended = True
        if self._turn.acquire(timeout=timeout):
            self._turn.release()

    def _do(self, folder: ProcessFolder, trackers: Callable[[], Mapping[int, int]]) -> None:
        if self._is_ended:
            return
        try:
            self._write(folder)
            if time.monotonic() - self._looked_at > LOOK_SECONDS:
                self._looked_at = time.monotonic()
                self._look(folder, trackers)
            self._sealer.seal_again()
        except sqlite3.ProgrammingError:
            if not self._is_ended:  # else it took longer than the end could wait
                raise

    def _write(self, folder: ProcessFolder) -> None:
        journal = folder.journal
        if journal.held and not journal.is_in_memory:
            with self._lock:
                journal.write_held()
        if journal.size > SEGMENT_BYTES:
            with self._lock:
                journal.rotate()
            folder.ledger.fold_for_good(
                journal.segment, keep_bytes=self._keep_bytes, breathe=Breath()
            )

    def _look(self, folder: ProcessFolder, trackers: Callable[[], Mapping[int, int]]) -> None:
        if not folder.is_settled:
            folder.settle(self._lock)
        if folder.journal.lost > self._lost:
            with contextlib.suppress(sqlite3.Error):  # noted when the disk takes it
                folder.ledger.note_lost(folder.journal.lost)
                self._lost = folder.journal.lost
        self._sealer.seal_what_a_repair_forgot()
        self._sealer.measure()
        if time.monotonic() - self._pruned_at > PRUNE_SECONDS:
            self._pruned_at = time.monotonic()
            breathe = Breath()
            while folder.ledger.prune(trackers(), datetime.now(timezone.utc) - FORGOTTEN_AFTER):
                breathe()
