"""Opening a store by what names it."""

from __future__ import annotations

from os import PathLike, fspath

from .memory import MemoryStore
from .store import BudgetStore, Clock

__all__ = ["open_store"]


def open_store(named: BudgetStore | str | PathLike[str] | None, clock: Clock | None) -> BudgetStore:
    """
    Return the store that a path, an address or `memory` names.

    Raises:
        ValueError: If a clock is given with a store that has its own.
    """
    if named is None or named == "memory":
        return MemoryStore(clock)
    if not isinstance(named, (str, PathLike)):
        if clock is not None:
            raise ValueError("the store has its own clock: give it the clock, not the manager")
        return named
    text = fspath(named)
    # Imported here: a program uses one of them.
    if text.startswith(("redis://", "rediss://", "unix://")):
        from .redis_store import RedisStore

        return RedisStore.from_url(text, clock=clock)
    from .sqlite import SQLiteStore

    return SQLiteStore(text, clock=clock)
