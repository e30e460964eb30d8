"""Cycles that were sent but could not be sealed yet."""

from __future__ import annotations

from typing import NamedTuple

from .cycle import SealedBy

__all__ = ["UnsealedCycles"]


class _Unsealed(NamedTuple):
    owner: tuple[int, str]
    sealed_by: SealedBy


class UnsealedCycles:
    """
    Remembers them until they are sealed, or grow on under the same number.

    Counters are additive, so a cycle that goes on loses only time resolution. Not locked:
    the caller orders what happens, so that no call is added to a cycle being sealed.
    """

    def __init__(self) -> None:
        self._cycles: dict[int, _Unsealed] = {}
        self._latest: dict[tuple[int, str], int] = {}

    def __len__(self) -> int:
        return len(self._cycles)

    def add(self, sequence: int, owner: tuple[int, str], sealed_by: SealedBy) -> None:
        """Remember a cycle; its owner is a tracker's number and the conversation."""
        self._cycles[sequence] = _Unsealed(owner, sealed_by)
        self._latest[owner] = sequence

    def reopen(self, owner: tuple[int, str]) -> int | None:
        """Return the cycle that goes on with the owner's next call, if there is one."""
        sequence = self._latest.pop(owner, None)
        if sequence is not None:
            self._cycles.pop(sequence, None)
        return sequence

    def take(self) -> tuple[int, tuple[int, str], SealedBy] | None:
        """Take the oldest cycle out, to seal it."""
        if not self._cycles:
            return None
        sequence = next(iter(self._cycles))
        owner, sealed_by = self._cycles.pop(sequence)
        if self._latest.get(owner) == sequence:
            del self._latest[owner]
        return sequence, owner, sealed_by
