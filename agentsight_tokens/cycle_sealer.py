"""The sealer: numbers the cycles of one process and seals them, at once or when it can."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from itertools import count
from typing import Final

from .cycle import SealedBy
from .errors import StorageError
from .process_folder import ProcessFolder
from .unsealed import UnsealedCycles

__all__ = ["CycleSealer"]


MEASURE_SECONDS: Final = 0.2
"""How long a measure holds when the outbox seems full."""


class CycleSealer:
    """
    Gives out the numbers of cycles and knows which of them are not sealed.

    Args:
        folder: Returns the folder of this process.
        lock: What orders the calls of this process.
        waiting_bytes: Returns how much waits for delivery.
        max_mb: How much may wait before cycles are no longer sealed, but go on.
    """

    def __init__(
        self,
        folder: Callable[[], ProcessFolder],
        lock: AbstractContextManager[object],
        *,
        waiting_bytes: Callable[[], int],
        max_mb: int,
    ) -> None:
        self._folder = folder
        self._lock: Final = lock
        self._measured = waiting_bytes
        self._max_mb = max_mb
        self._sequences = count(1)
        self._open: set[int] = set()
        self._unsealed = UnsealedCycles()
        self._waiting_bytes = 0
        self._sealed_bytes_then = 0
        self._measured_at = 0.0
        self._repairs = 0

    def __len__(self) -> int:
        """Return how many cycles were sent and are not sealed."""
        return len(self._unsealed)

    def open(self, tracker: int, conversation_id: str) -> int:
        """
        Return the number of a conversation's next cycle; to be called with the lock held.

        A cycle that could not be sealed goes on.
        """
        sequence = self._unsealed.reopen((tracker, conversation_id)) or next(self._sequences)
        self._open.add(sequence)
        return sequence

    def seal(self, tracker: int, cycles: Mapping[str, int], sealed_by: SealedBy) -> None:
        """
        Seal cycles durably, all or none.

        Args:
            tracker: The number of their tracker.
            cycles: Their numbers, by their conversations.
            sealed_by: What ended them.

        Raises:
            StorageError: If the disk did not take them, or the outbox is full. They are sealed
                when that is over, together with what the conversations use until then.
        """
        try:
            if self._is_full():
                raise StorageError(
                    f"{self._max_mb} MB wait for delivery, as many as AGENTSIGHT_OUTBOX_MAX_MB "
                    "allows: the cycle goes on until there is room"
                )
            self._seal(cycles.values(), sealed_by)
        except (sqlite3.Error, OSError) as error:
            with self._lock:
                for conversation_id, sequence in cycles.items():
                    self._unsealed.add(sequence, (tracker, conversation_id), sealed_by)
            if isinstance(error, StorageError):
                raise
            folder = self._folder()
            lost = f" {folder.journal.lost} calls are lost." if folder.journal.lost else ""
            raise StorageError(
                f"{str(folder.path)!r} cannot be written ({error}); the cycle is kept and sealed "
                f"when it can be again.{lost}"
            ) from error

    def seal_again(self) -> bool:
        """Seal what could not be; tell whether nothing of the kind is left."""
        while not (self._unsealed and self._is_full()):
            with self._lock:
                taken = self._unsealed.take()
            if taken is None:
                return True
            sequence, owner, sealed_by = taken
            try:
                self._seal([sequence], sealed_by)
            except (sqlite3.Error, OSError):
                with self._lock:
                    self._unsealed.add(sequence, owner, sealed_by)
                break
        return False

    def seal_what_a_repair_forgot(self) -> None:
        """Seal the cycles once more that a damaged ledger knew of."""
        ledger = self._folder().ledger
        if ledger.times_made_again != self._repairs:
            self._repairs = ledger.times_made_again
            ledger.fold()
            with self._lock:  # no cycle may be opened meanwhile
                ledger.seal_the_rest(sealed_by="recovery", still_open=self._open)

    def measure(self) -> None:
        """Look how much waits for delivery."""
        self._measured_at = time.monotonic()
        self._sealed_bytes_then = self._folder().ledger.sealed_bytes
        self._waiting_bytes = self._measured()

    def _is_full(self) -> bool:
        if not self._seems_full():
            return False
        if time.monotonic() - self._measured_at > MEASURE_SECONDS:
            self.measure()
        return self._seems_full()

    def _seems_full(self) -> bool:
        since = self._folder().ledger.sealed_bytes - self._sealed_bytes_then
        return self._waiting_bytes + since >= self._max_mb * 1_000_000

    def _seal(self, sequences: Collection[int], sealed_by: SealedBy) -> None:
        folder = self._folder()
        with self._lock:
            if folder.journal.is_in_memory:
                folder.ledger.fold()
            if not folder.journal.write_held():
                raise OSError("calls still wait in memory")
        folder.ledger.seal(*sequences, sealed_by=sealed_by)
        self._open.difference_update(sequences)
