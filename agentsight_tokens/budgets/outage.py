"""WatchedStore: what happens to calls while a shared store is away."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from threading import RLock
from typing import Final, Literal

import msgspec

from agentsight_tokens.errors import StorageError
from agentsight_tokens.forks import renew_after_fork

from .memory import MemoryStore
from .refusals import store_is_away
from .reservation import Reservation
from .store import BudgetStore, Counts, Outdated, Refusal, Used
from .windows import NO_LIMIT, Window, WindowSet

__all__ = ["OnStoreError", "WatchedStore"]

OnStoreError = Literal["local_share", "open", "closed"]
"""While the store is away: grant a part of what was left, everything, or nothing."""

_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 30.0

_logger: Final = logging.getLogger("agentsight_tokens")


class _Debt:
    """What was used of some windows while the store was away."""

    __slots__ = ("pico_usd", "tokens", "windows")

    def __init__(self, windows: WindowSet) -> None:
        self.windows = windows
        self.tokens = 0
        self.pico_usd = 0


class WatchedStore:
    """
    A store that may be away, and what stands in for it meanwhile.

    What is used meanwhile is owed to the store and settled when it is back.

    Args:
        store: The store.
        on_store_error: What happens to calls while it is away.
        local_share: The part of what was last seen left that this process may use.
        monotonic: Tells the seconds by which pauses are measured.
    """

    def __init__(
        self,
        store: BudgetStore,
        *,
        on_store_error: OnStoreError,
        local_share: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if on_store_error not in ("local_share", "open", "closed"):
            raise ValueError(
                f"on_store_error is 'local_share', 'open' or 'closed', not {on_store_error!r}"
            )
        if not 0 <= local_share <= 1:
            raise ValueError(f"local_share must lie between 0 and 1, not {local_share!r}")
        self._store = store
        self._policy = on_store_error
        self._share = local_share
        self._monotonic = monotonic
        self._away_until = 0.0
        self._pause = 0.0
        self._reason = ""
        self.is_remote = store.is_remote
        self.now = store.now
        self.seen = store.seen
        self.forget_after_fork()
        renew_after_fork(self)

    def forget_after_fork(self) -> None:
        """Begin anew in a child: what the parent owes, the parent settles."""
        # Reentrant: the garbage collector may end a stream, and so settle its call.
        self._lock = RLock()
        self._is_paying = False
        self._unsettled: list[tuple[Reservation, int, int]] = []
        self._debts: dict[tuple[str, ...], _Debt] = {}
        self._begin_shares()

    def reserve(self, reservation: Reservation) -> Refusal | Outdated | None:
        """Hold what the reservation asks for; None if it fits."""
        if self._is_there():
            try:
                answer = self._store.reserve(reservation)
            except StorageError as error:
                self._leave(error)
            else:
                self._came_back()
                return answer
        return self._reserve_meanwhile(reservation)

    def settle(self, reservation: Reservation, tokens: int, pico_usd: int) -> Sequence[Used]:
        """Put what was used in the place of the hold; empty if that has to wait."""
        if reservation.is_settled:
            return ()
        if reservation.stand_in is not None:
            reservation.is_settled = True
            used = self.add(reservation.windows, tokens, pico_usd)
            if used:  # the store knows it now, and the share need not
                tokens = pico_usd = 0
            self._stand_in.settle(reservation.stand_in, tokens, pico_usd)
            return used
        if self._is_there():
            try:
                return self._store.settle(reservation, tokens, pico_usd)
            except StorageError as error:
                self._leave(error)
        with self._lock:
            reservation.is_settled = True
            self._unsettled.append((reservation, tokens, pico_usd))
        return ()

    def renew(self, reservation: Reservation) -> None:
        """Hold the reservation for longer, again if the hold had ended."""
        if reservation.stand_in is not None:
            reservation.stand_in.lease_until = reservation.lease_until
            self._stand_in.renew(reservation.stand_in)
        elif self._is_there():
            try:
                self._store.renew(reservation)
            except StorageError as error:
                self._leave(error)

    def add(self, windows: WindowSet, tokens: int, pico_usd: int) -> Sequence[Used]:
        """Count what nothing was held for; empty if that has to wait."""
        if self._is_there():
            try:
                return self._store.add(windows, tokens, pico_usd)
            except StorageError as error:
                self._leave(error)
        with self._lock:
            names = tuple(window.id for window in windows)
            debt = self._debts.setdefault(names, _Debt(windows))
            debt.tokens += tokens
            debt.pico_usd += pico_usd
        return ()

    def read(self, windows: WindowSet) -> Sequence[Counts]:
        """Return what is counted in each window; while the store is away, what is known."""
        if self._is_there():
            try:
                return self._store.read(windows)
            except StorageError as error:
                self._leave(error)
        return [self._known(window) for window in windows]

    def claim(self, window: Window, alert: str) -> bool:
        """Return True to the one who is the first to ask for an alert of a window."""
        return self._store.claim(window, alert)

    def close(self) -> None:
        """Settle what is owed, if the store is there, and close it."""
        self._came_back()
        self._store.close()

    def _is_there(self) -> bool:
        return not self._pause or self._monotonic() >= self._away_until

    def _leave(self, error: StorageError) -> None:
        """Ask the store no more for a while, each time a longer one."""
        with self._lock:
            if self._pause and self._monotonic() < self._away_until:
                return  # calls that ran at the same time fail together
            if not self._pause:
                _logger.error("%s; until it is back, calls are granted %r", error, self._policy)
            self._reason = str(error)
            self._pause = min(max(2 * self._pause, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
            self._away_until = self._monotonic() + self._pause

    def _came_back(self) -> None:
        """Settle what is owed."""
        if not (self._pause or self._unsettled or self._debts) or self._is_paying:
            return
        with self._lock:
            self._is_paying = True
            self._pause = 0.0
            try:
                while self._unsettled:
                    reservation, tokens, pico = self._unsettled[0]
                    reservation.is_settled = False
                    self._store.settle(reservation, tokens, pico)
                    reservation.is_settled = True
                    del self._unsettled[0]
                while self._debts:
                    names, debt = next(iter(self._debts.items()))
                    self._store.add(debt.windows, debt.tokens, debt.pico_usd)
                    del self._debts[names]
                self._begin_shares()
            except StorageError as error:
                self._leave(error)
            finally:
                self._is_paying = False

    def _begin_shares(self) -> None:
        self._shares: dict[str, Window] = {}
        self._stand_in = MemoryStore()
        self._stand_in.now = self.now

    def _reserve_meanwhile(self, reservation: Reservation) -> Refusal | None:
        hard = next((w for w in reservation.windows if w.budget.is_hard), None)
        if hard is None or self._policy == "open":
            return None
        if self._policy == "closed":
            raise store_is_away(hard, reservation, self._reason)
        windows = WindowSet(self._share_of(window) for window in reservation.windows)
        share = msgspec.structs.replace(reservation, windows=windows)
        refusal = self._stand_in.reserve(share)
        if refusal is None:
            reservation.stand_in = share
            return None
        return refusal._replace(counts=tuple(map(self._known, reservation.windows)))

    def _share_of(self, window: Window) -> Window:
        """Return a window of this process's own, with the part of the limit that it may use."""
        with self._lock:
            share = self._shares.get(window.id)
            if share is None:
                share = copy.copy(window)
                used_tokens, used_pico = self.seen(window)
                share.hard_tokens = self._part(window.hard_tokens, used_tokens)
                share.hard_pico = self._part(window.hard_pico, used_pico)
                self._shares[window.id] = share
            return share

    def _part(self, limit: int, used: int) -> int:
        if limit == NO_LIMIT:
            return limit
        return int(max(limit - used, 0) * Fraction(str(self._share))) or -1

    def _known(self, window: Window) -> Counts:
        used_tokens, used_pico = self.seen(window)
        here = self._stand_in.read(WindowSet([window]))[0]
        return here._replace(
            used_tokens=here.used_tokens + used_tokens, used_pico=here.used_pico + used_pico
        )
