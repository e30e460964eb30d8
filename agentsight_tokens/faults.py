"""
The one boundary between our trouble and the host program.

Whatever goes wrong while we count is logged once for each place, counted and swallowed.
Only `BudgetExceededError` passes, because stopping the call is what the user asked for.
"""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import RLock
from typing import Final, ParamSpec, TypeVar

from .errors import BudgetExceededError

__all__ = ["contained", "fault_counts", "guarded", "raising_faults", "report_fault", "warn"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_logger: Final = logging.getLogger("agentsight_tokens")
# Reentrant: the garbage collector may end a stream, and so record its call, anywhere.
_lock = RLock()
_counts: Final[Counter[str]] = Counter()
_raises = False


def report_fault(place: str, error: BaseException) -> None:
    """Count a fault and log the first of each place."""
    with _lock:
        _counts[place] += 1
        is_first = _counts[place] == 1
    if is_first:
        _logger.error(
            "%s failed; the program goes on, later failures there are only counted",
            place,
            exc_info=error,
        )
    if _raises:
        raise error


@contextmanager
def contained(place: str) -> Iterator[None]:
    """Swallow what the block raises, `BudgetExceededError` excepted."""
    try:
        yield
    except BudgetExceededError:
        raise
    except Exception as error:  # noqa: BLE001  # this is the boundary
        report_fault(place, error)


def guarded(function: Callable[_P, _T]) -> Callable[_P, _T | None]:
    """Make a callback that a framework calls unable to hurt it; a fault returns None."""

    @functools.wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _T | None:
        try:
            return function(*args, **kwargs)
        except BudgetExceededError:
            raise
        except Exception as error:  # noqa: BLE001  # this is the boundary
            report_fault(function.__qualname__, error)
            return None

    return run


def warn(message: str, category: type[Warning], *, levels: int = 3) -> None:
    """
    Warn where a call is counted; filters that turn warnings into errors stop nothing.

    Args:
        message: What is to be known.
        category: The kind of warning.
        levels: How many frames up the warning points.
    """
    try:
        warnings.warn(message, category, stacklevel=levels)
    except Warning:
        _logger.warning(message)


def fault_counts() -> Mapping[str, int]:
    """Return how often each place has failed in this process."""
    with _lock:
        return dict(_counts)


@contextmanager
def raising_faults() -> Iterator[None]:
    """Let faults through to the caller, for tests that must see them."""
    global _raises
    before, _raises = _raises, True
    try:
        yield
    finally:
        _raises = before


def _begin_anew_in_child() -> None:
    global _lock
    _lock = RLock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_begin_anew_in_child)
