"""Single keys of a terminal, without waiting for Enter."""

from __future__ import annotations

import contextlib
import select
import sys
import time
from collections.abc import Callable, Iterator

__all__ = ["reading_keys"]


@contextlib.contextmanager
def reading_keys() -> Iterator[Callable[[float], str]]:
    """
    Give a function that waits some seconds for a key, and returns it or "".

    Ctrl-C is a key as well, so that it interrupts nothing half-way. Where nobody can type, or
    keys cannot be read singly, it only waits.
    """
    try:
        import termios
        import tty

        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
    except (ImportError, OSError, ValueError):  # Windows, a pipe, no stdin at all
        yield _waited
        return

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return sys.stdin.read(1) if ready else ""

    tty.setcbreak(descriptor)
    mode = termios.tcgetattr(descriptor)
    mode[tty.LFLAG] &= ~termios.ISIG
    termios.tcsetattr(descriptor, termios.TCSADRAIN, mode)
    try:
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _waited(seconds: float) -> str:
    time.sleep(seconds)
    return ""
