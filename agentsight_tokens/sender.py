"""
The sender: brings what waits in the outbox to one destination.

Every process has one thread for each of its destinations, and the one that holds the lock
of a destination works for all processes of the data directory. What to do next lies on disk,
so that another process can go on where this one dies.
"""

from __future__ import annotations

import contextlib
import logging
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Final

from .ballast import Ballast
from .bell import Bell
from .breath import Breath
from .delivery import Delivery
from .destinations import Destination, Outcome
from .errors import (
    DeliveryRefusedError,
    DestinationUnauthorizedError,
    DestinationUnavailableError,
)
from .faults import report_fault
from .folder_lock import FolderLock
from .ledger import Ledger, Parcel, is_damage, is_full
from .outbox import Outbox
from .waiting_size import WaitingSize

__all__ = ["Sender"]

POLL_SECONDS: Final = 0.3
"""How often a sender looks for a free lock, and whether what failed works again."""
LOOK_SECONDS: Final = 1.0
"""How often the one that delivers looks for work that nobody told it of."""
REST_FACTOR: Final = 10
"""How much longer than it looked it rests, where that is more than `LOOK_SECONDS`."""
LONGEST_REST_SECONDS: Final = 5.0
MEASURE_SECONDS: Final = 1.0
BATCH_CALLS: Final = 1000
"""How many calls are delivered at once, about; a parcel is never torn for it."""
AHEAD_CALLS: Final = 500
"""From how many calls on a delivery is worth a thread, so that the next is read meanwhile."""
FIRST_DELAY_SECONDS: Final = 0.2
LONGEST_DELAY_SECONDS: Final = 30.0
LONGEST_RETRY_AFTER_SECONDS: Final = 300.0

_logger: Final = logging.getLogger("agentsight_tokens")


class Sender:
    """
    Delivers to one destination, from all folders of a data directory.

    Args:
        directory: The data directory.
        destination: Where it delivers.
        on_progress: Called in the sender's thread after each step.
        memory: Returns the ledger of this process, if it is in memory.
        longest_wait: For how long a destination may be away before a cycle is set aside.
    """

    def __init__(
        self,
        directory: Path,
        destination: Destination,
        *,
        on_progress: Callable[[], None] = lambda: None,
        memory: Callable[[], Ledger | None] = lambda: None,
        longest_wait: timedelta = timedelta(days=7),
    ) -> None:
        self.destination = destination
        self._directory = directory
        self._on_progress = on_progress
        self._memory = memory
        self._longest_wait = longest_wait
        self._outbox = Outbox(directory, memory=memory)
        self._ballast = Ballast(directory)
        digest = sha256(destination.identity.encode()).hexdigest()[:12]
        self._lock = FolderLock(directory / f"sender-{digest}.lock")
        self._bell = Bell(directory / f"sender-{digest}.bell")
        self._size = WaitingSize(directory / f"sender-{digest}.size")
        self._measured_at = 0.0
        self._breathe = Breath()
        self._stopping = Event()
        self._passes = Condition()
        self._finished_passes = 0
        self.last_error: str | None = None
        """Why the destination did not take the last delivery; None when it did."""
        self._attempts = 0
        self._not_before = 0.0
        self._refused = 0
        self._is_unable_to_lead = False
        self._unmarked: list[tuple[Ledger, list[int]]] = []
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

    def waiting_bytes(self) -> int:
        """Return about how much waits for the destination, in all folders."""
        known = self._size.published if self._lock.is_held else None
        return self._size.read() if known is None else known

    def drain(self, deadline: float) -> bool:
        """
        Wait until nothing waits for the destination any more of what does now.

        Args:
            deadline: The time of the monotonic clock at which to give up.
        """
        identity = self.destination.identity
        outbox = Outbox(self._directory, memory=self._memory)
        with self._passes:
            # The pass that runs now may have looked before the caller's last cycle.
            wanted = self._finished_passes + 2
        marks: dict[str, int] | None = None
        try:
            while True:
                # A file may be damaged or locked; it is made again, or unlocked, by others.
                with contextlib.suppress(sqlite3.Error, TimeoutError):
                    outbox.adopt(identity, patience=max(deadline - time.monotonic(), 0))
                    if marks is None and self._finished_passes >= wanted:
                        marks = outbox.marks(identity)
                    if marks is not None and not outbox.is_waiting(identity, marks):
                        return True
                self.ring()
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                with self._passes:
                    self._passes.wait(min(remaining, 0.02))
        finally:
            outbox.close()

    def stop(self, timeout: float = 5.0) -> None:
        """
        Stop delivering; what waits stays on disk.

        Args:
            timeout: How many seconds to wait for a delivery that is under way. A longer one
                ends in the background.
        """
        self._stopping.set()
        self.ring()
        if self._thread is None:
            self._let_go()
        else:
            self._thread.join(timeout)
            self._thread = None

    def forget_after_fork(self) -> None:
        """Let go of the parent's locks in a child."""
        self._lock.release()
        self._bell.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._work()
            except Exception as error:  # noqa: BLE001  # the thread must survive whatever it meets
                with contextlib.suppress(Exception):
                    report_fault(f"delivering to {self.destination.identity}", error)
                self._back_off(None)
            with self._passes:
                self._finished_passes += 1
                self._passes.notify_all()
            self._on_progress()
            if not self._stopping.is_set():
                self._bell.wait(self._rest(time.monotonic() - began))
        self._let_go()

    def _rest(self, looked: float) -> float:
        """Return how long to sleep unless somebody rings, after so many seconds of looking."""
        if not self._lock.is_held or self._attempts or self._unmarked:
            return POLL_SECONDS
        # Each step of a look asks for the interpreter, and while a busy thread of the program does
        # not give it, that thread is slowed.
        return min(max(LOOK_SECONDS, looked * REST_FACTOR), LONGEST_REST_SECONDS)

    def _let_go(self) -> None:
        self._lock.release()
        self._bell.close()
        self._outbox.close()
        self.destination.close()

    def _work(self) -> None:
        is_leader = self._lead()
        if not is_leader and self._memory() is None:
            return
        try:
            nothing_waits = self._deliver_all(is_leader=is_leader)
        except sqlite3.Error as error:
            if not is_full(error) or not self._ballast.throw_away():
                raise
            for ledger in self._outbox.ledgers():
                with contextlib.suppress(sqlite3.Error):
                    ledger.checkpoint()
            nothing_waits = self._deliver_all(is_leader=is_leader)
        else:
            if is_leader:
                self._ballast.take()
        if is_leader:
            self._publish_size(nothing_waits=nothing_waits)

    def _publish_size(self, *, nothing_waits: bool) -> None:
        is_due = time.monotonic() - self._measured_at > MEASURE_SECONDS
        if nothing_waits:
            self._size.publish(0)
        elif is_due or self.last_error is None:
            self._measured_at = time.monotonic()
            sizes = [ledger.pending_bytes() for ledger in self._outbox.ledgers()]
            self._size.publish(sum(s.get(self.destination.identity, 0) for s in sizes))

    def _lead(self) -> bool:
        if self._lock.is_void:
            self._lock.release()
            self._bell.close()
        try:
            if not self._lock.try_acquire():
                return False
            self._bell.open()
        except OSError as error:
            self._report_no_lead(error)
            return False
        return True

    def _report_no_lead(self, error: OSError) -> None:
        # Where nothing is on disk, whoever records a call says that nothing can be.
        if not self._is_unable_to_lead and self._outbox.folders():
            self._is_unable_to_lead = True
            _logger.error(
                "%s cannot be written (%s): what waits there is left to other processes",
                self._directory,
                error,
            )

    def _deliver_all(self, *, is_leader: bool) -> bool:
        """Deliver what can be now; tell whether nothing waits any more."""
        identity = self.destination.identity
        self._mark_again()
        if is_leader:
            self._outbox.adopt(identity, self._breathe)
        while not self._stopping.is_set() and time.monotonic() >= self._not_before:
            if not self._deliver_waiting(is_leader=is_leader):
                return self.last_error is None and not self._stopping.is_set()
        return False

    def _deliver_waiting(self, *, is_leader: bool) -> bool:
        """Deliver what waits; False if nothing did, or the destination is unavailable."""
        under_way: Delivery | None = None
        worked = False
        for ledger, parcels in self._waiting(is_leader=is_leader):
            worked = True
            if under_way is not None and not self._finish(under_way):
                return False
            under_way = Delivery(self.destination, ledger, parcels)
            if sum(parcel.cycle.calls for parcel in parcels) >= AHEAD_CALLS:
                under_way.begin()
            elif self._finish(under_way):
                under_way = None
            else:
                return False
        return worked and (under_way is None or self._finish(under_way))

    def _waiting(self, *, is_leader: bool) -> Iterator[tuple[Ledger, Sequence[Parcel]]]:
        """Yield what waits in batches, each once."""
        after: dict[str, int] = {}
        found = True
        while found:
            found = False
            for ledger, parcels in self._outbox.parcels(
                self.destination.identity,
                is_leader=is_leader,
                calls=BATCH_CALLS,
                after=after,
                breathe=self._breathe,
            ):
                found = True
                after[ledger.journal_id] = parcels[-1].id
                yield ledger, parcels

    def _finish(self, delivery: Delivery) -> bool:
        """Note the outcome of a delivery; False if there is to be no further one now."""
        is_available = self._note(delivery)
        self._on_progress()
        return is_available and not self._stopping.is_set()

    def _deliver(self, ledger: Ledger, parcels: Sequence[Parcel]) -> bool:
        return self._note(Delivery(self.destination, ledger, parcels))

    def _note(self, delivery: Delivery) -> bool:
        """Note the outcome of a delivery; False if the destination is unavailable."""
        ledger, parcels = delivery.ledger, delivery.parcels
        try:
            outcomes = delivery.outcomes()
        except DeliveryRefusedError as error:
            return self._halve(ledger, parcels, str(error))
        except DestinationUnavailableError as error:
            self._hold(error)
            return False
        pairs = list(zip(parcels, outcomes, strict=True))
        self._mark_delivered(ledger, [p.id for p, o in pairs if o.is_accepted and not o.refused])
        for parcel, outcome in pairs:
            if not outcome.is_accepted or outcome.refused:
                self._refuse_parts(ledger, parcel, outcome)
        self._attempts = 0
        self.last_error = None
        return True

    def _mark_delivered(self, ledger: Ledger, parcels: list[int]) -> None:
        # What cannot be noted now is not delivered once more for that.
        self._unmarked.append((ledger, parcels))
        self._mark_again()

    def _mark_again(self) -> None:
        while self._unmarked:
            ledger, parcels = self._unmarked[0]
            try:
                ledger.mark(parcels, "delivered")
            except sqlite3.ProgrammingError:
                pass  # closed: its folder is gone, or its file was made again
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
            self._unmarked.pop(0)

    def _halve(self, ledger: Ledger, parcels: Sequence[Parcel], reason: str) -> bool:
        if len(parcels) == 1:
            self._refuse(ledger, parcels[0], reason)
            return True
        half = len(parcels) // 2
        return self._deliver(ledger, parcels[:half]) and self._deliver(ledger, parcels[half:])

    def _refuse_parts(self, ledger: Ledger, parcel: Parcel, outcome: Outcome) -> None:
        reason = outcome.reason or "refused without a reason"
        if not ledger.refuse_calls(parcel.id, outcome.refused or {}):
            self._refuse(ledger, parcel, reason)
        else:
            self._report_refusal(parcel, next(iter((outcome.refused or {}).values()), reason))

    def _refuse(self, ledger: Ledger, parcel: Parcel, reason: str) -> None:
        """Look for the refused call in halves of the cycle, and set that one aside."""
        if ledger.split(parcel.id):
            return
        ledger.mark([parcel.id], "dead", reason=reason)
        self._report_refusal(parcel, reason)

    def _report_refusal(self, parcel: Parcel, reason: str) -> None:
        self._refused += 1
        if str(self._refused).strip("0") == "1":  # the first, the 10th, the 100th, ...
            _logger.error(
                "%s refuses a call of conversation %r (%s), the refusal no. %d of this process; "
                "what is refused is kept: agentsight-tokens outbox dead list",
                self.destination.identity,
                parcel.cycle.conversation_id,
                reason,
                self._refused,
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
        self._expire(str(error))

    def _expire(self, reason: str) -> None:
        """Set aside what waits for too long, after it was tried once more."""
        days = self._longest_wait / timedelta(days=1)
        expired = sum(
            ledger.expire(
                self.destination.identity,
                datetime.now(timezone.utc) - self._longest_wait,
                reason=f"it waited for more than {days:g} days: {reason}",
            )
            for ledger in self._outbox.ledgers()
        )
        if expired:
            _logger.error(
                "%d cycles have waited for %s for more than %g days and are set aside: "
                "agentsight-tokens outbox dead retry sends them again",
                expired,
                self.destination.identity,
                days,
            )

    def _back_off(self, retry_after_seconds: float | None) -> None:
        """Wait longer after each failure, at a random time up to the limit (full jitter)."""
        ceiling = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(self._attempts, 20))
        delay = random.uniform(0, ceiling)  # noqa: S311  # spreads load, guards no secret
        if retry_after_seconds is not None:
            delay += min(retry_after_seconds, LONGEST_RETRY_AFTER_SECONDS)
        self._attempts += 1
        self._not_before = time.monotonic() + delay
