"""Time-ordered ids."""

from __future__ import annotations

import os
import time
from random import Random
from threading import RLock

__all__ = ["time_ordered_id"]

# Reentrant: the garbage collector may end a stream, and so record its call, anywhere.
_lock = RLock()
_last_ms = 0
_sequence = 0
# Seeded by the operating system; an id must be unique, not secret.
_random = Random()  # noqa: S311


def time_ordered_id() -> str:
    """
    Return a UUID of version 7 as 32 hexadecimal digits.

    Ids of one process sort in the order in which they were made: the 12 bits behind the
    milliseconds count up (RFC 9562, section 6.2, method 1).
    """
    global _last_ms, _sequence
    lock = _lock
    lock.acquire()  # by hand, because `with` takes twice the time and each call has an id
    try:
        now_ms = time.time_ns() // 1_000_000
        if now_ms > _last_ms:
            _last_ms, _sequence = now_ms, 0
        else:  # the same millisecond, or a clock that was set back
            _sequence += 1
            if _sequence > 0xFFF:
                _last_ms, _sequence = _last_ms + 1, 0
        head = _last_ms << 16 | 0x7000 | _sequence
    finally:
        lock.release()
    tail = _random.getrandbits(62) | 0x8000_0000_0000_0000
    return (head << 64 | tail).to_bytes(16, "big").hex()


def _begin_anew_in_child() -> None:
    global _lock, _random
    _lock = RLock()  # another thread of the parent may have held it
    _random = Random()  # noqa: S311  # the parent goes on with its own


os.register_at_fork(after_in_child=_begin_anew_in_child)
