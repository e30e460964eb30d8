"""How windows lie in Redis, and how scripts are told of them."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct, pack, unpack
from typing import Final, NamedTuple

from .store import Counts, Sightings, Used
from .windows import NO_LIMIT, Window, WindowSet

__all__ = ["Packed", "call_numbers", "counts_of", "doubles", "in_micro", "numbers_of", "packed"]

call_numbers: Final = Struct("<5d").pack
"""
Packs the numbers of a call.

They are the clock in milliseconds, 0 for the server's, the milliseconds of the lease, tokens,
micro-USD and pico-USD.
"""

_PICO_PER_MICRO: Final = 10**6
_NONE: Final = 1e300
_SLOTS: Final = {"hour": 1, "day": 2, "month": 3, "total": 4, "session": 5}
_SLIDING_SLOT: Final = 6


class Packed(NamedTuple):
    """What the scripts are told of windows, made once for each plan."""

    keys: list[bytes]
    """The keys in which the windows are counted."""
    plan: bytes
    holds: str
    """What a lease says of the windows that it holds."""
    order: list[int]
    """The number of each window in the order of the keys."""
    is_new: bool
    """Whether the keys are to be kept for longer."""


def doubles(numbers: Sequence[float]) -> bytes:
    """Return numbers as the scripts read them."""
    return pack(f"<{len(numbers)}d", *numbers)


def numbers_of(answer: bytes) -> list[int]:
    """Return the whole numbers that a script answered."""
    return [*map(int, unpack(f"<{len(answer) // 8}d", answer))]


def packed(
    windows: WindowSet, prefix: str, now: float, sightings: Sightings, *, is_new: bool
) -> Packed:
    """
    Return what the scripts are told of windows.

    Args:
        windows: The windows.
        prefix: What all keys begin with.
        now: Seconds since 1970.
        sightings: What was seen used in them.
        is_new: Whether the keys are to be kept for longer.
    """
    by_key: dict[str, list[int]] = {}
    for number, window in enumerate(windows):
        by_key.setdefault(f"{prefix}{window.group}", []).append(number)
    ends = [window.end for window in windows if window.end is not None]
    plan: list[float] = [min(ends) * 1000 if ends else _NONE]
    holds = []
    for key, numbers in by_key.items():
        keep_until = max(windows[number].keep_until for number in numbers)
        plan += (len(numbers), max(int((keep_until - now) * 1000), 1))
        for number in numbers:
            window = windows[number]
            plan += _facts(window, is_seen=any(sightings.of(window)))
            name = key if number == numbers[0] else "="
            holds.append(f"{name}\n{_slot(window)}\n{window.start}")
    return Packed(
        [key.encode() for key in by_key],
        doubles(plan),
        "\n".join(holds),
        [number for numbers in by_key.values() for number in numbers],
        is_new,
    )


def counts_of(of_windows: Packed, numbers: Sequence[int]) -> list[Counts]:
    """Return what a script found in each window: six numbers for each, in the keys' order."""
    found = [Counts()] * len(of_windows.order)
    for place, number in enumerate(of_windows.order):
        used, micro, pico, all_tokens, all_micro, all_pico = numbers[6 * place : 6 * place + 6]
        used_pico = micro * _PICO_PER_MICRO + pico
        held_pico = all_micro * _PICO_PER_MICRO + all_pico - used_pico
        found[number] = Counts(used, used_pico, all_tokens - used, held_pico)
    return found


def in_micro(amounts: Used) -> tuple[int, int, int]:
    """Return tokens and pico-USD as tokens, micro-USD and the pico-USD beyond them."""
    return (amounts[0], *divmod(amounts[1], _PICO_PER_MICRO))


def _facts(window: Window, *, is_seen: bool) -> tuple[float, ...]:
    slice_seconds = window.end - window.start if window.end else 0
    first = window.start - slice_seconds * len(window.earlier)
    most_tokens = _NONE if window.hard_tokens == NO_LIMIT else window.hard_tokens
    micro, pico = divmod(window.hard_pico, _PICO_PER_MICRO)
    money = (_NONE, 0) if window.hard_pico == NO_LIMIT else (micro, pico)
    return (_slot(window), window.start, first, most_tokens, *money, int(is_seen))


def _slot(window: Window) -> int:
    return _SLIDING_SLOT if window.earlier else _SLOTS[window.name]
