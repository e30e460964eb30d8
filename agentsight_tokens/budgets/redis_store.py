"""RedisStore: the budgets of many machines, counted by scripts in Redis."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from threading import local
from typing import Any, Final

from agentsight_tokens.errors import StorageError
from agentsight_tokens.forks import renew_after_fork
from agentsight_tokens.ids import time_ordered_id

from .redis_layout import Packed, call_numbers, counts_of, doubles, in_micro, numbers_of, packed
from .redis_scripts import GivenClient, KeptConnections, Script, Scripts
from .reservation import Reservation
from .store import Clock, Counts, Outdated, Refusal, Sightings, Used, first_refusal, seconds_by
from .windows import Window, WindowSet

__all__ = ["RedisStore"]

_PREFIX: Final = "{agentsight-budgets}:"
_MOST_TRIES: Final = 8
_MOST_CONNECTIONS: Final = 1 << 30
_LOST: Final = -2


class RedisStore:
    """
    Keeps budgets in Redis. Safe to use from many threads, processes and machines.

    A script asks all the windows of a call at once, by Redis's own time. All keys have one
    hash tag, so that a cluster keeps them in one slot. What a process has seen used it brings
    back when Redis has lost it: restarted empty, it does not begin again at 0.

    Args:
        client: A client of redis-py, of one server or of a cluster.
        prefix: What all keys begin with; it must contain a hash tag, as in `{budgets}:`.
        clock: Tells the time in place of Redis, for tests.
    """

    is_remote = True

    def __init__(self, client: Any, *, prefix: str = _PREFIX, clock: Clock | None = None) -> None:
        from redis.exceptions import RedisError  # it is installed where there is a client

        if not 0 <= prefix.find("{") < prefix.find("}") - 1:
            raise ValueError(f"prefix needs a hash tag such as '{{budgets}}:', not {prefix!r}")
        self._trouble = (OSError, RedisError)
        self._client = client
        self._prefix = prefix
        self._leases = f"{prefix}leases".encode()
        self._clock = None if clock is None else seconds_by(clock)
        self._ahead_seconds: float | None = None
        self._scripts: Scripts = GivenClient(client)
        self._reserve = Script("reserve.lua")
        self._tell = Script("settle.lua")
        self.forget_after_fork()
        renew_after_fork(self)

    @classmethod
    def from_url(
        cls, url: str, *, clock: Clock | None = None, timeout_seconds: float = 2.0
    ) -> RedisStore:
        """
        Return the store at a `redis://`, `rediss://` or `unix://` address.

        Raises:
            ImportError: If redis-py is not installed; it comes with the extra `redis`.
        """
        # Imported here: most programs keep their budgets on one machine.
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise ImportError(
                f"budgets at {url!r} need redis-py: pip install 'agentsight-tokens[redis]'"
            ) from error
        client = redis.Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            max_connections=_MOST_CONNECTIONS,
            # While the server is away the policy decides; nobody waits for tries with pauses.
            retry=Retry(NoBackoff(), 0),
        )
        store = cls(client, clock=clock)
        store._scripts = KeptConnections(client.connection_pool)
        return store

    def forget_after_fork(self) -> None:
        """Begin anew in a child."""
        self._scripts.forget_after_fork()
        self._process = ""
        self._numbers = count()
        self._sightings = Sightings()
        self._thread = local()
        self._late: deque[tuple[Reservation, int, int]] = deque()

    def now(self) -> float:
        """Return Redis's time, as this process last heard it."""
        if self._clock is not None:
            return self._clock()
        if self._ahead_seconds is None:
            self._ahead_seconds = 0.0  # should Redis be away, its first answer tells
            with suppress(*self._trouble):
                seconds, microseconds = self._client.time()
                self._ahead_seconds = seconds + microseconds / 1e6 - time.time()
        return time.time() + self._ahead_seconds

    def reserve(self, reservation: Reservation) -> Refusal | Outdated | None:
        """Hold what the reservation asks for; None if it fits."""
        windows = reservation.windows
        for _ in range(_MOST_TRIES):
            answer = self._ask_to_hold(reservation)
            if answer > 0:
                reservation.is_held = True
                return None
            if answer == _LOST:
                self._restore(windows)
            elif answer < _LOST:
                return "outdated"
            else:
                tokens, pico = reservation.tokens, reservation.pico_usd
                refusal = first_refusal(windows, self.read(windows), tokens, pico)
                if refusal is not None:  # else something was given back meanwhile
                    return refusal
        raise StorageError("Redis does not agree with itself on what is used")

    def settle(self, reservation: Reservation, tokens: int, pico_usd: int) -> Sequence[Used]:
        """Put what was used in the place of the hold; empty if it was settled before."""
        if reservation.is_settled:
            return ()
        if getattr(self._thread, "is_busy", False):  # the garbage collector ended a stream
            reservation.is_settled = True
            self._late.append((reservation, tokens, pico_usd))
            return ()
        return self._settle(reservation, tokens, pico_usd)

    def renew(self, reservation: Reservation) -> None:
        """Hold the reservation for longer, again if the hold had ended."""
        is_gone, _ = self._ask("renew", reservation.windows, reservation)
        if is_gone:
            self._ask_to_hold(reservation, is_forced=True)

    def add(self, windows: WindowSet, tokens: int, pico_usd: int) -> Sequence[Used]:
        """Count what nothing was held for; return what is used in each window."""
        before = [*map(self._sightings.of, windows)]
        _, counts = self._ask("add", windows, amounts=(tokens, pico_usd))
        return self._note(windows, before, counts, (tokens, pico_usd))

    def read(self, windows: WindowSet) -> Sequence[Counts]:
        """Return what is counted in each window, holds whose lease has ended aside."""
        counts = self._ask("read", windows)[1]
        seen = [*map(self._sightings.of, windows)]
        if any(now[0] < of[0] or now[1] < of[1] for now, of in zip(counts, seen, strict=True)):
            return self._restore(windows)
        return counts

    def seen(self, window: Window) -> Used:
        """Return what this process last saw used in a window."""
        return self._sightings.of(window)

    def claim(self, window: Window, alert: str) -> bool:
        """Return True to the one who is the first to ask for an alert of a window."""
        key = f"{self._prefix}alert:{window.alert_id}:{alert}"
        seconds = max(int(window.keep_until - self.now()), 1)
        try:
            return bool(self._client.set(key, 1, nx=True, ex=seconds))
        except self._trouble as error:
            raise StorageError(f"Redis does not keep budgets: {error}") from error

    def close(self) -> None:
        """Close the connections; they are opened again when they are needed."""
        self._scripts.close()
        self._client.close()

    def _settle(self, reservation: Reservation, tokens: int, pico_usd: int) -> Sequence[Used]:
        windows = reservation.windows
        before = [*map(self._sightings.of, windows)]
        amounts = (tokens, pico_usd)
        was_settled, counts = self._ask("settle", windows, reservation, amounts=amounts)
        reservation.is_settled = True
        return self._note(windows, before, counts, (0, 0) if was_settled else amounts)

    def _note(
        self, windows: WindowSet, before: Sequence[Used], counts: Sequence[Counts], added: Used
    ) -> Sequence[Used]:
        """Remember what is used, and bring back what Redis has lost of it."""
        used = [of_window[:2] for of_window in counts]
        least = [(tokens + added[0], pico + added[1]) for tokens, pico in before]
        if any(now[0] < of[0] or now[1] < of[1] for now, of in zip(used, least, strict=True)):
            self._sightings.note(windows, least)
            self._restore(windows)
            return least
        self._sightings.note(windows, used)
        if (0, 0) in before:  # the script is to be told that there is something to lose
            windows.handle = self._pack(windows)
        return used

    def _restore(self, windows: WindowSet) -> Sequence[Counts]:
        """Let no window have less used than this process has seen; return what is counted."""
        of_windows: Packed = windows.handle or self._pack(windows)
        seen = [self._sightings.of(windows[number]) for number in of_windows.order]
        numbers = [number for used in seen for number in in_micro(used)]
        return self._ask("restore", windows, seen=doubles(numbers))[1]

    def _ask_to_hold(self, reservation: Reservation, *, is_forced: bool = False) -> int:
        windows = reservation.windows
        of_windows: Packed = windows.handle or self._pack(windows, is_new=True)
        reservation.id = reservation.id or self._new_id()
        amounts = in_micro((reservation.tokens, reservation.pico_usd))
        how = b"force" if is_forced else b"new" if of_windows.is_new else b""
        answer: int = self._run(
            self._reserve,
            (self._leases, *of_windows.keys),
            (
                self._numbers_of(amounts, int(reservation.lease_seconds * 1000)),
                _lease(reservation, amounts, of_windows),
                of_windows.plan,
                how,
            ),
        )
        self._hear(abs(answer))
        if of_windows.is_new and answer > 0:
            windows.handle = self._pack(windows)
        return answer

    def _ask(
        self,
        operation: str,
        windows: WindowSet,
        reservation: Reservation | None = None,
        *,
        amounts: Used = (0, 0),
        seen: bytes = b"",
    ) -> tuple[bool, Sequence[Counts]]:
        """Run the other script; return whether it had nothing to do, and what is counted."""
        of_windows: Packed = windows.handle or self._pack(windows)
        lease, lease_ms, name = b"", 0, ""
        if reservation is not None:
            held = in_micro((reservation.tokens, reservation.pico_usd))
            lease = _lease(reservation, held, of_windows)
            lease_ms = int(reservation.lease_seconds * 1000)
            name = reservation.id
        elif operation == "add":
            name = self._new_id()
        answer = self._run(
            self._tell,
            (self._leases, f"{self._prefix}settled:{name}".encode(), *of_windows.keys),
            (
                self._numbers_of(in_micro(amounts), lease_ms),
                lease,
                of_windows.plan,
                operation.encode(),
                seen,
            ),
        )
        had_nothing_to_do, now, *numbers = numbers_of(answer)
        self._hear(now)
        return bool(had_nothing_to_do), counts_of(of_windows, numbers)

    def _run(self, script: Script, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
        self._thread.is_busy = True
        try:
            answer = self._scripts.run(script, keys, args)
        except self._trouble as error:
            raise StorageError(f"Redis does not keep budgets: {error}") from error
        finally:
            self._thread.is_busy = False
        if self._late:
            self._settle_late()
        return answer

    def _new_id(self) -> str:
        # Named when it is needed: at the fork, the ids of the child are not its own yet.
        self._process = self._process or time_ordered_id()
        return f"{self._process}{next(self._numbers):x}"

    def _numbers_of(self, amounts: tuple[int, int, int], lease_ms: int) -> bytes:
        now = 0 if self._clock is None else int(self._clock() * 1000)
        return call_numbers(now, lease_ms, *amounts)

    def _hear(self, redis_ms: int) -> None:
        if redis_ms > -_LOST:
            self._ahead_seconds = redis_ms / 1000 - time.time()

    def _settle_late(self) -> None:
        late = self._late.popleft()
        try:
            self._settle(*late)
        except StorageError:
            self._late.append(late)

    def _pack(self, windows: WindowSet, *, is_new: bool = False) -> Packed:
        return packed(windows, self._prefix, self.now(), self._sightings, is_new=is_new)


def _lease(reservation: Reservation, held: tuple[int, int, int], of_windows: Packed) -> bytes:
    return f"{reservation.id}\n{held[0]}\n{held[1]}\n{held[2]}\n{of_windows.holds}".encode()
