"""
The sender: brings what waits in the outbox to one destination.

Every process has one thread for each of its destinations, and the one that holds the lock
of a destination works for all processes of the data directory. What to do next lies on disk,
so that another process can go on where this one dies.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import select
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Final

from .destinations import Destination
from .errors import (
    DeliveryRefusedError,
    DestinationUnauthorizedError,
    DestinationUnavailableError,
)
from .faults import report_fault
from .ledger import Ledger, Parcel
from .outbox import FolderLock, Outbox

__all__ = ["Sender"]

POLL_SECONDS: Final = 0.3
"""How often a sender looks for work that nobody told it of, and for a free lock."""
FIRST_DELAY_SECONDS: Final = 0.2
LONGEST_DELAY_SECONDS: Final = 30.0
LONGEST_RETRY_AFTER_SECONDS: Final = 300.0

_logger: Final = logging.getLogger("agentsight_tokens")


class Sender:
    """Delivers to one destination, from all folders of a data directory."""

    def __init__(
        self,
        directory: Path,
        destination: Destination,
        *,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self.destination = destination
        self._directory = directory
        self._on_progress = on_progress
        self._outbox = Outbox(directory)
        digest = sha256(destination.identity.encode()).hexdigest()[:12]
        self._lock = FolderLock(directory / f"sender-{digest}.lock")
        self._bell = _Bell(directory / f"sender-{digest}.bell")
        self._stopping = Event()
        self._passes = Condition()
        self._finished_passes = 0
        self.last_error: str | None = None
        """Why the destination did not take the last delivery; None when it did."""
        self._attempts = 0
        self._not_before = 0.0
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin to deliver."""
        if self._thread is None:
            self._thread = Thread(
                target=self._run, name=f"agentsight-{self.destination.identity}", daemon=True
            )
            self._thread.start()

    def ring(self) -> None:
        """Tell whoever delivers, in this process or another, that there is work."""
        self._bell.ring()

    def drain(self, deadline: float) -> bool:
        """
        Wait until nothing waits for the destination.

        Args:
            deadline: The time of the monotonic clock at which to give up.
        """
        outbox = Outbox(self._directory)
        try:
            with self._passes:
                # The pass that runs now may have looked before the caller's last cycle.
                wanted = self._finished_passes + 2
            while True:
                self.ring()
                outbox.adopt(self.destination.identity)
                with self._passes:
                    looked = self._finished_passes >= wanted
                    if looked and not outbox.pending(self.destination.identity):
                        return True
                    remaining = deadline - time.monotonic()
                    if remaining <= 0:
                        return False
                    self._passes.wait(min(remaining, 0.02))
        finally:
            outbox.close()

    def stop(self) -> None:
        """Stop delivering; what waits stays on disk."""
        self._stopping.set()
        self.ring()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None
        if self._lock.is_held:
            self._lock.release()
        self._bell.close()
        self._outbox.close()
        self.destination.close()

    def forget_after_fork(self) -> None:
        """Let go of the parent's locks in a child."""
        self._lock.release()
        self._bell.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._lock.try_acquire():
                    self._bell.open()
                    self._deliver_all()
            except Exception as error:  # noqa: BLE001  # the thread must survive whatever it meets
                with contextlib.suppress(Exception):
                    report_fault(f"delivering to {self.destination.identity}", error)
                self._back_off(None)
            with self._passes:
                self._finished_passes += 1
                self._passes.notify_all()
            self._on_progress()
            if not self._stopping.is_set():
                self._bell.wait(POLL_SECONDS)

    def _deliver_all(self) -> None:
        self._outbox.adopt(self.destination.identity)
        while not self._stopping.is_set() and time.monotonic() >= self._not_before:
            worked = False
            for ledger, parcels in self._outbox.parcels(self.destination.identity):
                worked = True
                if not self._deliver(ledger, parcels):
                    return
                self._on_progress()
                if self._stopping.is_set():
                    return
            if not worked:
                # Folders of dead processes are deleted once they are empty.
                return

    def _deliver(self, ledger: Ledger, parcels: Sequence[Parcel]) -> bool:
        """Deliver a batch and note its outcome; False if the destination is unavailable."""
        try:
            outcomes = self.destination.deliver([parcel.cycle for parcel in parcels])
        except DeliveryRefusedError as error:
            return self._halve(ledger, parcels, str(error))
        except DestinationUnavailableError as error:
            self._hold(error)
            return False
        ledger.mark(
            [p.id for p, outcome in zip(parcels, outcomes, strict=True) if outcome.is_accepted],
            "delivered",
        )
        for parcel, outcome in zip(parcels, outcomes, strict=True):
            if not outcome.is_accepted:
                self._refuse(ledger, parcel, outcome.reason or "refused without a reason")
        self._attempts = 0
        self.last_error = None
        return True

    def _halve(self, ledger: Ledger, parcels: Sequence[Parcel], reason: str) -> bool:
        if len(parcels) == 1:
            self._refuse(ledger, parcels[0], reason)
            return True
        half = len(parcels) // 2
        return self._deliver(ledger, parcels[:half]) and self._deliver(ledger, parcels[half:])

    def _refuse(self, ledger: Ledger, parcel: Parcel, reason: str) -> None:
        """Look for the refused call in halves of the cycle, and set that one aside."""
        if ledger.split(parcel.id):
            return
        ledger.mark([parcel.id], "dead", reason=reason)
        _logger.error(
            "%s refuses a call of conversation %r (%s); it is kept: agentsight-tokens outbox",
            self.destination.identity,
            parcel.cycle.conversation_id,
            reason,
        )

    def _hold(self, error: DestinationUnavailableError) -> None:
        if self.last_error is None:
            advice = (
                "check AGENTSIGHT_API_KEY"
                if isinstance(error, DestinationUnauthorizedError)
                else "it is tried again"
            )
            _logger.warning(
                "%s does not take deliveries (%s): everything waits on disk, %s",
                self.destination.identity,
                error,
                advice,
            )
        self.last_error = str(error)
        self._back_off(error.retry_after_seconds)

    def _back_off(self, retry_after_seconds: float | None) -> None:
        """Wait longer after each failure, at a random time up to the limit (full jitter)."""
        ceiling = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(self._attempts, 20))
        delay = random.uniform(0, ceiling)  # noqa: S311  # spreads load, guards no secret
        if retry_after_seconds is not None:
            delay += min(retry_after_seconds, LONGEST_RETRY_AFTER_SECONDS)
        self._attempts += 1
        self._not_before = time.monotonic() + delay


class _Bell:
    """Wakes the sender of any process through a named pipe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: int | None = None
        self._rung = Event()

    def open(self) -> None:
        """Listen for other processes."""
        if self._reader is None:
            with contextlib.suppress(FileExistsError):
                os.mkfifo(self._path, 0o600)
            # Read and write: a pipe without a writer would always be readable.
            self._reader = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def ring(self) -> None:
        """Wake the listener."""
        self._rung.set()
        if self._reader is not None:
            with contextlib.suppress(OSError):
                os.write(self._reader, b".")
            return
        try:
            writer = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in {errno.ENXIO, errno.ENOENT}:
                raise
            return  # nobody listens
        try:
            with contextlib.suppress(OSError):  # full: the listener is awake anyway
                os.write(writer, b".")
        finally:
            os.close(writer)

    def wait(self, seconds: float) -> None:
        """Sleep until somebody rings."""
        if self._reader is None:
            self._rung.wait(seconds)
        else:
            poll = select.poll()  # unlike select(), it takes any descriptor
            poll.register(self._reader, select.POLLIN)
            if poll.poll(seconds * 1000):
                os.read(self._reader, 65536)
        self._rung.clear()

    def close(self) -> None:
        """Stop listening."""
        if self._reader is not None:
            os.close(self._reader)
            self._reader = None
