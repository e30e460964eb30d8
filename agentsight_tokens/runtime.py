"""
The wiring: the files, the senders and the trackers of one process.

Trackers that deliver from one data directory to the same destinations share one runtime.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sqlite3
import time
import weakref
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import count
from pathlib import Path
from threading import Condition, Lock, RLock
from typing import Any, Final, Protocol

from .caretaker import Caretaker
from .config import TokenConfig
from .configured import configured_destinations, embedded_store
from .cycle import SealedBy, cycle_key
from .cycle_sealer import CycleSealer
from .destinations import Destination
from .faults import contained
from .ledger import Ledger, ParcelState
from .process_folder import ProcessFolder
from .sender import Sender

__all__ = [
    "Member",
    "Runtime",
    "configured_destinations",
    "embedded_store",
    "runtimes",
    "shared",
]

EXIT_RESERVE_SECONDS: Final = 0.1


class Member(Protocol):
    """A tracker, as its runtime sees it."""

    @property
    def asks_after(self) -> int:
        """The number of the last call that it does not ask for any more."""

    def forget_after_fork(self) -> None:
        """Begin anew in a child: what the parent counted is the parent's."""


class Runtime:
    """What the trackers of one data directory share."""

    def __init__(
        self, directory: Path, destinations: Sequence[Destination], config: TokenConfig
    ) -> None:
        self._directory = directory
        self._destinations = tuple(destinations)
        self._config = config
        self._members: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._numbers = count(1)
        self._users = 0
        self._begin()

    def _begin(self) -> None:
        # Reentrant: the garbage collector may end a stream, and so record its call, while
        # this thread records another.
        self.lock = RLock()
        """Orders what is counted; held while an entry is appended and its counters added."""
        self._folder_lock = RLock()
        self._opened: ProcessFolder | None = None
        self._sealer = CycleSealer(
            lambda: self._folder,
            self.lock,
            waiting_bytes=self._waiting_bytes,
            max_mb=self._config.outbox_max_mb,
        )
        self._progress = Condition()
        self._senders = [
            Sender(
                self._directory,
                destination,
                on_progress=self._on_progress,
                memory=self._memory,
                longest_wait=timedelta(days=self._config.outbox_max_days),
            )
            for destination in self._destinations
        ]
        self._caretaker = Caretaker(self.lock, self._sealer, max_mb=self._config.outbox_max_mb)
        self._is_running = False

    def join(self, member: Member) -> int:
        """Add a tracker and return its number."""
        self._users += 1
        number = self._members[member] = next(self._numbers)
        self._run()
        return number

    def leave(self, member: Member) -> None:
        """Take a tracker out; the last one closes the files."""
        self._members.pop(member, None)
        self._users -= 1
        if self._users <= 0:
            self.close()

    def next_sequence(self, tracker: int, conversation_id: str) -> int:
        """Return the number of a conversation's next cycle; to be called with the lock held."""
        return self._sealer.open(tracker, conversation_id)

    def key(self, conversation_id: str, sequence: int) -> str:
        """Return the key of a cycle of this process."""
        return cycle_key(self._folder.journal_id, conversation_id, sequence)

    def append(self, tracker: int, sequence: int, record: bytes) -> None:
        """Put a call on disk; to be called with the lock held."""
        (self._opened or self._folder).journal.append(tracker, sequence, record)

    def seal(self, tracker: int, cycles: Mapping[str, int], sealed_by: SealedBy) -> None:
        """
        Seal cycles durably; see `CycleSealer.seal`.

        Raises:
            StorageError: If that must wait.
        """
        self._sealer.seal(tracker, cycles, sealed_by)
        for sender in self._senders:
            sender.ring()

    @property
    def ledger(self) -> Ledger:
        """The ledger of this process."""
        return self._folder.ledger

    def pending(self) -> int:
        """Return how many cycles of this process are not acknowledged."""
        if self._opened is None:
            return 0
        try:
            return self._opened.ledger.pending() + len(self._sealer)
        except sqlite3.Error:
            return len(self._sealer)

    def wait_for(self, sequence: int, seconds: float) -> tuple[ParcelState, str | None]:
        """Wait until a cycle is delivered or refused; return its state and the reason."""
        deadline = time.monotonic() + seconds
        while True:
            with self._progress:
                try:
                    state, reason = self.ledger.state_of(sequence)
                except sqlite3.Error as error:
                    state, reason = "pending", str(error)
                remaining = deadline - time.monotonic()
                if state != "pending" or remaining <= 0:
                    return state, reason
                # Another process may be the one that delivers, so look now and then.
                self._progress.wait(min(remaining, 0.05))

    def flush(self, timeout: float | None) -> bool:
        """Deliver everything that is sealed in the data directory; False if time is up."""
        deadline = time.monotonic() + (timeout if timeout is not None else float("inf"))
        self._run()
        while True:
            is_sealed = self._sealer.seal_again()
            drained = [sender.drain(deadline) for sender in self._senders]
            if is_sealed or not all(drained) or time.monotonic() > deadline:
                return all(drained) and is_sealed

    def last_error(self) -> str | None:
        """Return why destinations do not take deliveries; of several, which."""
        if self._opened is not None and self._opened.journal.lost:
            return f"{self._opened.journal.lost} calls are lost: neither disk nor memory took them"
        errors = {s.destination.identity: s.last_error for s in self._senders if s.last_error}
        if len(self._senders) == 1:
            return next(iter(errors.values()), None)
        return "; ".join(f"{name}: {error}" for name, error in errors.items()) or None

    def close(self) -> None:
        """Seal and deliver what there is, for a short time, and close the files."""
        with _registry_lock:
            for key, runtime in list(_registry.items()):
                if runtime is self:
                    del _registry[key]
        deadline = time.monotonic() + self._config.exit_flush_seconds
        if self._opened is not None:
            with contained("sealing what was open at the end"):
                self._opened.seal_the_rest(deadline - EXIT_RESERVE_SECONDS)
            with contained("delivering at the end"):
                self.flush(deadline - time.monotonic() - EXIT_RESERVE_SECONDS)
        for sender in self._senders:
            sender.stop(max(deadline - time.monotonic(), EXIT_RESERVE_SECONDS))
        # A sender that hangs in a delivery goes on in the background, and would look after them.
        self._caretaker.end(max(deadline - time.monotonic(), EXIT_RESERVE_SECONDS))
        if self._opened is not None:
            self._opened.close(deadline)
            self._opened = None

    def forget_after_fork(self) -> None:
        """Begin anew in a child, with own files, threads and counters."""
        if self._opened is not None:
            self._opened.forget_after_fork()
            _parents_files.append(self._opened)
        for sender in self._senders:
            sender.forget_after_fork()
            _parents_files.append(sender)
        for destination in self._destinations:
            destination.forget_after_fork()
        self._begin()
        for member in list(self._members):
            member.forget_after_fork()

    @property
    def _folder(self) -> ProcessFolder:
        if self._opened is None:
            with self._folder_lock:
                if self._opened is None:
                    self._opened = ProcessFolder(
                        self._directory / "processes",
                        [destination.identity for destination in self._destinations],
                        self._config.environment,
                    )
            self._run()
        return self._opened

    def _run(self) -> None:
        if not self._is_running:
            self._is_running = True
            with contextlib.suppress(OSError):  # told when there is something to write
                self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            for sender in self._senders:
                sender.start()

    def _waiting_bytes(self) -> int:
        own = self._folder.ledger.pending_bytes()
        # A destination that is away must not hold up the others, so the least counts.
        return min(
            max(own.get(sender.destination.identity, 0), sender.waiting_bytes())
            for sender in self._senders
        )

    def _memory(self) -> Ledger | None:
        folder = self._opened
        return folder.ledger if folder is not None and folder.journal.is_in_memory else None

    def _on_progress(self) -> None:
        """Do, in a sender's thread, what need not be done in the caller's."""
        with self._progress:
            self._progress.notify_all()
        folder = self._opened
        if folder is None:
            return
        self._caretaker.look_after(folder, self._asked_for)

    def _asked_for(self) -> dict[int, int]:
        return {number: member.asks_after for member, number in list(self._members.items())}


_registry_lock = Lock()
_registry: Final[dict[tuple[object, ...], Runtime]] = {}
_parents_files: Final[list[object]] = []
"""Kept from the garbage collector: SQLite handles must not be closed in a forked child."""


def shared(config: TokenConfig, destinations: Sequence[Destination]) -> Runtime:
    """Return the runtime for a data directory and destinations, one for each process."""
    identities = tuple(destination.identity for destination in destinations)
    key = (config.directory, identities, config.environment)
    with _registry_lock:
        if key not in _registry:
            _registry[key] = Runtime(config.directory, destinations, config)
        return _registry[key]


def runtimes() -> list[Runtime]:
    """Return the runtimes of this process."""
    with _registry_lock:
        return list(_registry.values())


@atexit.register
def _close_all() -> None:
    for runtime in runtimes():
        with contained("closing at the exit"):
            runtime.close()


def _begin_anew_in_child() -> None:
    global _registry_lock
    _registry_lock = Lock()  # another thread of the parent may have held it
    for runtime in list(_registry.values()):
        runtime.forget_after_fork()


os.register_at_fork(after_in_child=_begin_anew_in_child)
