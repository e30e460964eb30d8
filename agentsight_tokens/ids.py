"""Time-ordered ids."""

from __future__ import annotations

import os
import time
from random import Random
from threading import RLock
from typing import Final

__all__ = ["time_ordered_id"]

# Reentrant: the garbage collector may end a stream, and so record its call, anywhere.
_lock = RLock()
_last = 0
"""The first half of the newest id: 48 bits of milliseconds, the version, and 12 bits."""
_VERSION: Final = 0x7000
_COUNTED: Final = 0xFFF
_VARIANT: Final = 0x8000_0000_0000_0000
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
        head = time.time_ns() // 1_000_000 << 16 | _VERSION
        if head <= _last:  # in the same millisecond, or when a clock was set back
            is_full = _last & _COUNTED == _COUNTED
            head = (_last >> 16) + 1 << 16 | _VERSION if is_full else _last + 1
        _last = head
    finally:
        lock.release()
    return (head << 64 | _VARIANT | _random.getrandbits(62)).to_bytes(16, "big").hex()


def _begin_anew_in_child() -> None:
    global _lock, _random
    _lock = RLock()  # another thread of the parent may have held it
    _random = Random()  # noqa: S311  # the parent goes on with its own


os.register_at_fork(after_in_child=_begin_anew_in_child)
