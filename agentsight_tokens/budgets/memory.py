"""MemoryStore: the budgets of one process, for as long as it lives."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from threading import RLock
from typing import Final

from agentsight_tokens.forks import rest_while_forking

from .reservation import Reservation
from .store import Clock, Counts, Refusal, Used, first_refusal, seconds_by
from .windows import Window, WindowSet

__all__ = ["MemoryStore"]

_PRUNED_EVERY: Final = 4096


class _Cell:
    """What is counted in a window, or in a slice of one that slides."""

    __slots__ = ("keep_until", "pico", "tokens", "used_pico", "used_tokens")

    def __init__(self) -> None:
        self.tokens = 0
        """Used and held."""
        self.pico = 0
        self.used_tokens = 0
        self.used_pico = 0
        self.keep_until = 0.0


_Place = tuple[_Cell, int, int]


class MemoryStore:
    """
    Keeps budgets in this process's memory, under one lock.

    Args:
        clock: Tells the time; the machine's when None.
    """

    is_remote = False

    def __init__(self, clock: Clock | None = None) -> None:
        self.now = seconds_by(clock)
        self.forget_after_fork()
        rest_while_forking(self)
        self._cells: dict[str, _Cell] = {}
        self._held: dict[int, Reservation] = {}
        self._alerts: dict[tuple[str, str], float] = {}
        self._first_lease_ends = inf
        self._prune_at = _PRUNED_EVERY

    def forget_after_fork(self) -> None:
        """Begin anew in a child, with what the parent counted but without its calls."""
        # Reentrant: the garbage collector may end a stream, and so settle its call, while
        # this thread is in here for another.
        self._lock = RLock()

    def rest(self) -> None:
        """Let no child inherit sums that are half added."""
        self._lock.acquire()

    def resume(self) -> None:
        """Go on in the parent."""
        self._lock.release()

    def reserve(self, reservation: Reservation) -> Refusal | None:
        """Hold what the reservation asks for; None if it fits."""
        windows = reservation.windows
        tokens = reservation.tokens
        pico = reservation.pico_usd
        with self._lock:
            cells = windows.handle or self._cells_of(windows)
            fits = True
            for cell, most_tokens, most_pico in cells:
                cell.tokens = now_tokens = cell.tokens + tokens
                cell.pico = now_pico = cell.pico + pico
                if now_tokens > most_tokens or now_pico > most_pico:
                    fits = False
            if not fits:
                refusal = self._second_look(reservation)
                if refusal is not None:
                    return refusal
            reservation.is_held = True
            self._held[id(reservation)] = reservation
            if reservation.lease_until < self._first_lease_ends:
                self._first_lease_ends = reservation.lease_until
        return None

    def settle(self, reservation: Reservation, tokens: int, pico_usd: int) -> Sequence[Used]:
        """Put what was used in the place of the hold; empty if it was settled before."""
        with self._lock:
            if reservation.is_settled:
                return ()
            reservation.is_settled = True
            if self._held.pop(id(reservation), None) is None:
                return self._count(reservation.windows, tokens, pico_usd)
            reservation.is_held = False
            self._give_back(reservation)
            return self._count(reservation.windows, tokens, pico_usd)

    def renew(self, reservation: Reservation) -> None:
        """Hold the reservation for longer, again if the hold had ended."""
        with self._lock:
            if reservation.is_held or reservation.is_settled:
                return
            for cell, _, _ in self._cells_of(reservation.windows):
                cell.tokens += reservation.tokens
                cell.pico += reservation.pico_usd
            reservation.is_held = True
            self._held[id(reservation)] = reservation
            self._first_lease_ends = min(self._first_lease_ends, reservation.lease_until)

    def add(self, windows: WindowSet, tokens: int, pico_usd: int) -> Sequence[Used]:
        """Count what nothing was held for; return what is used in each window."""
        with self._lock:
            return self._count(windows, tokens, pico_usd)

    def read(self, windows: WindowSet) -> Sequence[Counts]:
        """Return what is counted in each window, holds whose lease has ended aside."""
        with self._lock:
            self._end_leases()
            return [self._counts(window) for window in windows]

    def seen(self, window: Window) -> Used:
        """Return what is used in a window."""
        counts = self._counts(window)
        return counts.used_tokens, counts.used_pico

    def claim(self, window: Window, alert: str) -> bool:
        """Return True to the one who is the first to ask for an alert of a window."""
        with self._lock:
            is_first = (window.alert_id, alert) not in self._alerts
            self._alerts[window.alert_id, alert] = window.keep_until
        return is_first

    def close(self) -> None:
        """There is nothing to release."""

    def _cells_of(self, windows: WindowSet) -> list[_Place]:
        """Return the cells of windows, with what may be counted in each at most."""
        places = []
        for window in windows:
            cell = self._cells.get(window.id)
            if cell is None:
                if len(self._cells) >= self._prune_at:
                    self._prune()
                cell = self._cells.setdefault(window.id, _Cell())
            cell.keep_until = window.keep_until
            # Of a window that slides, the cell alone does not tell whether a call fits.
            hard = (-1, -1) if window.earlier else (window.hard_tokens, window.hard_pico)
            places.append((cell, *hard))
        windows.handle = places
        return places

    def _count(self, windows: WindowSet, tokens: int, pico_usd: int) -> list[Used]:
        used: list[Used] = []
        for cell, _, _ in windows.handle or self._cells_of(windows):
            cell.tokens += tokens
            cell.pico += pico_usd
            cell.used_tokens = used_tokens = cell.used_tokens + tokens
            cell.used_pico = used_pico = cell.used_pico + pico_usd
            used.append((used_tokens, used_pico))
        for position, window in enumerate(windows):
            if window.earlier:
                used[position] = self._counts(window)[:2]
        return used

    def _give_back(self, reservation: Reservation) -> None:
        tokens, pico = reservation.tokens, reservation.pico_usd
        for cell, _, _ in reservation.windows.handle or self._cells_of(reservation.windows):
            cell.tokens -= tokens
            cell.pico -= pico

    def _counts(self, window: Window) -> Counts:
        cells = [self._cells[name] for name in (window.id, *window.earlier) if name in self._cells]
        used_tokens = sum(cell.used_tokens for cell in cells)
        used_pico = sum(cell.used_pico for cell in cells)
        return Counts(
            used_tokens,
            used_pico,
            sum(cell.tokens for cell in cells) - used_tokens,
            sum(cell.pico for cell in cells) - used_pico,
        )

    def _second_look(self, reservation: Reservation) -> Refusal | None:
        """Take a hold back, unless it fits when slices are counted and ended leases are not."""
        self._give_back(reservation)
        self._end_leases()
        windows = reservation.windows
        tokens, pico = reservation.tokens, reservation.pico_usd
        refusal = first_refusal(windows, [self._counts(w) for w in windows], tokens, pico)
        if refusal is None:
            for cell, _, _ in windows.handle:
                cell.tokens += tokens
                cell.pico += pico
        return refusal

    def _end_leases(self) -> None:
        now = self.now()
        if now < self._first_lease_ends:
            return
        # Copied, because a settlement may come from the garbage collector in between.
        held = list(self._held.values())
        lasting = [r.lease_until for r in held if r.lease_until > now]
        self._first_lease_ends = min(lasting, default=inf)
        for reservation in held:
            if reservation.lease_until <= now and reservation.is_held:
                del self._held[id(reservation)]
                reservation.is_held = False
                self._give_back(reservation)

    def _prune(self) -> None:
        now = self.now()
        self._end_leases()
        # One with a hold is in use, whatever its time.
        self._cells = {
            name: cell
            for name, cell in list(self._cells.items())
            if cell.keep_until > now or cell.tokens != cell.used_tokens
        }
        self._alerts = {name: until for name, until in self._alerts.items() if until > now}
        self._prune_at = 2 * max(len(self._cells), _PRUNED_EVERY // 2)
