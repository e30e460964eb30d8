"""Time-ordered ids."""

from __future__ import annotations

import os
import time
from random import Random
from threading import RLock

__all__ = ["time_ordered_id"]

# Reentrant: the garbage collector may end a stream, and so record its call, anywhere.
_lock = RLock()
_last = 0
"""The milliseconds of the newest id, and the 12 bits behind them."""
# Seeded by the operating system; an id must be unique, not secret.
_random = Random()  # noqa: S311


def time_ordered_id() -> str:
    """
    Return a UUID of version 7 as 32 hexadecimal digits.

    Ids of one process sort in the order in which they were made: the 12 bits behind the
    milliseconds count up (RFC 9562, section 6.2, method 1).
    """
    global _last
    lock = _lock
    lock.acquire()  # by hand, because `with` takes twice the time and each call has an id
    try:
        # One more than the newest in the same millisecond, or when a clock was set back.
        stamp = _last = max(time.time_ns() // 1_000_000 << 12, _last + 1)
    finally:
        lock.release()
    head = (stamp >> 12) << 16 | 0x7000 | stamp & 0xFFF
    tail = _random.getrandbits(62) | 0x8000_0000_0000_0000
    return (head << 64 | tail).to_bytes(16, "big").hex()


def _begin_anew_in_child() -> None:
    global _lock, _random
    _lock = RLock()  # another thread of the parent may have held it
    _random = Random()  # noqa: S311  # the parent goes on with its own


os.register_at_fork(after_in_child=_begin_anew_in_child)
