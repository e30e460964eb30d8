"""Forks: what begins anew in a forked child, and what must be at rest when it is made."""

from __future__ import annotations

import os
from threading import RLock
from typing import Final, Protocol
from weakref import WeakSet

__all__ = ["ForkGuard", "Forkable", "Resting", "renew_after_fork", "rest_while_forking"]


class Forkable(Protocol):
    """What holds locks or threads that a forked child does not have."""

    def forget_after_fork(self) -> None:
        """Begin anew in a child."""


class Resting(Forkable, Protocol):
    """What a child may not inherit half done."""

    def rest(self) -> None:
        """Finish what is being done, and begin nothing until `resume`."""

    def resume(self) -> None:
        """Go on in the parent."""


class Lock(Protocol):
    """A lock that its holder may take once more."""

    def acquire(self) -> bool:
        """Take it."""

    def release(self) -> None:
        """Give it back."""


class ForkGuard:
    """
    Holds a lock while the process forks, so that no thread is inside what the lock guards.

    SQLite needs it: a child that is made while a thread opens or writes a file inherits locks
    in SQLite's memory that nobody will ever give back.

    Args:
        lock: The lock; whoever it belongs to keeps the guard.
    """

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._is_held = False
        rest_while_forking(self)

    def rest(self) -> None:
        """Take the lock."""
        self._lock.acquire()
        self._is_held = True

    def resume(self) -> None:
        """Give the lock back."""
        if self._is_held:
            self._is_held = False
            self._lock.release()

    def forget_after_fork(self) -> None:
        """Give the lock back in the child, too."""
        self.resume()


# Nothing that rests is made while others are at rest.
_gate = RLock()
_forkable: Final[WeakSet[Forkable]] = WeakSet()
_resting: Final[WeakSet[Resting]] = WeakSet()
_at_rest: Final[list[Resting]] = []


def renew_after_fork(owner: Forkable) -> None:
    """Let an object begin anew in every forked child, for as long as it lives."""
    _forkable.add(owner)


def rest_while_forking(owner: Resting) -> None:
    """Let an object rest while its process forks, and begin anew in the child."""
    with _gate:
        _forkable.add(owner)
        _resting.add(owner)


def _before_fork() -> None:
    _gate.acquire()
    for owner in list(_resting):
        owner.rest()
        _at_rest.append(owner)


def _in_parent() -> None:
    while _at_rest:
        _at_rest.pop().resume()
    _gate.release()


def _in_child() -> None:
    global _gate
    _gate = RLock()
    _at_rest.clear()
    for owner in list(_forkable):
        owner.forget_after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
