"""Forks: what begins anew in a forked child, where a parent's thread may have held a lock."""

from __future__ import annotations

import os
from typing import Final, Protocol
from weakref import WeakSet

__all__ = ["Forkable", "renew_after_fork"]


class Forkable(Protocol):
    """What holds locks or handles that a forked child must not use."""

    def forget_after_fork(self) -> None:
        """Begin anew in a child."""


_forkable: Final[WeakSet[Forkable]] = WeakSet()


def renew_after_fork(owner: Forkable) -> None:
    """Let an object begin anew in every forked child, for as long as it lives."""
    _forkable.add(owner)


def _begin_anew_in_child() -> None:
    for owner in list(_forkable):
        owner.forget_after_fork()


os.register_at_fork(after_in_child=_begin_anew_in_child)
