"""Forks: what begins anew in a forked child, and what must be at rest when it is made."""

from __future__ import annotations

import os
from typing import Final, Protocol
from weakref import WeakSet

__all__ = ["Forkable", "Resting", "renew_after_fork", "rest_while_forking"]


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


_forkable: Final[WeakSet[Forkable]] = WeakSet()
_resting: Final[WeakSet[Resting]] = WeakSet()
_at_rest: Final[list[Resting]] = []


def renew_after_fork(owner: Forkable) -> None:
    """Let an object begin anew in every forked child, for as long as it lives."""
    _forkable.add(owner)


def rest_while_forking(owner: Resting) -> None:
    """Let an object rest while its process forks, and begin anew in the child."""
    _forkable.add(owner)
    _resting.add(owner)


def _before_fork() -> None:
    for owner in list(_resting):
        owner.rest()
        _at_rest.append(owner)


def _in_parent() -> None:
    while _at_rest:
        _at_rest.pop().resume()


def _in_child() -> None:
    _at_rest.clear()
    for owner in list(_forkable):
        owner.forget_after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
