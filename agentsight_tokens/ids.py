"""Time-ordered ids."""

from __future__ import annotations

import os
import time
from itertools import count
from random import SystemRandom
from typing import Final

__all__ = ["time_ordered_id"]

_UUID: Final = 0x7000_8000_0000_0000_0000
"""What makes 80 bits, behind 48 of milliseconds, a UUID of version 7."""
_newest = 0
"""The newest time that an id has, in milliseconds: a clock that is set back is not followed."""


def _begin_anew() -> None:
    """Let the ids of a process be like no other's, a child's not like its parent's."""
    global _process, _numbers
    getrandbits = SystemRandom().getrandbits
    _process = _UUID | getrandbits(12) << 64 | getrandbits(32) << 30
    _numbers = count(getrandbits(29))


_process: int
"""What the ids of this process have behind the time: 44 random bits."""
_numbers: count[int]
"""Counts up from a random number, in the last 30 bits."""
_begin_anew()
os.register_at_fork(after_in_child=_begin_anew)


def time_ordered_id() -> str:
    """
    Return a UUID of version 7 as 32 hexadecimal digits.

    Ids of one thread sort in the order in which they were made (RFC 9562, section 6.2).
    """
    global _newest
    now = time.time_ns() // 1_000_000
    if now > _newest:
        _newest = now
    # No lock, which would take as long as the rest: each step here is one of the interpreter's.
    return ((_newest << 80 | _process) + next(_numbers)).to_bytes(16, "big").hex()
