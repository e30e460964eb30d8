"""BudgetManager: reserves before a call, settles after it, and tells how much is left."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from agentsight_tokens.errors import StorageError
from agentsight_tokens.forks import renew_after_fork
from agentsight_tokens.usage import TokenUsage, UsageRecord, checked_count

from .alarms import Alarms
from .alerts import AlertCallback
from .amounts import Amount, pico_usd
from .budget import SCOPES, Budget, BudgetScope
from .memory import MemoryStore
from .outage import OnStoreError, WatchedStore
from .refusals import exceeded, exceeds_call_limit, shrink, unpriced
from .reservation import Reservation, Use
from .status import BudgetStatus, window_status
from .store import BudgetStore, Clock, Outdated, Refusal
from .stores import open_store
from .windows import CallScope, Plan, Window, causer_of, plan_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["LEASE_SECONDS", "BudgetManager"]

LEASE_SECONDS: Final = 630.0
"""How long a hold lasts that nobody settles: the SDKs' timeout of 600 s and a margin."""

_MOST_PLANS: Final = 10_000
_MOST_TRIES: Final = 16
_LARGEST_STEP_BACK_SECONDS: Final = 86_400

_ScopeKey = tuple[tuple[str, Any], ...]


class BudgetManager:
    """
    Holds budgets: a call reserves what it may use before it is sent, and settles after it.

    Every window that a call meets is asked at once, so that calls that run at the same time
    cannot pass a limit together. Safe in every thread, and with a shared store in every
    process and machine.

    Args:
        store: Where use is counted: a store, the path of an SQLite file that the processes of
            this machine share, a `redis://` address for many machines, or None for this
            process's memory, which a restart empties.
        clock: Tells the time, for tests.
        lease_seconds: How long a hold lasts whose call never ends: longer than the longest
            call, unless its stream renews it.
        on_store_error: What happens while a shared store is away: `local_share` grants each
            process a part of what it last saw left, `open` everything, `closed` nothing.
        local_share: The part of what was left that one process may use meanwhile.
        conceal: What replaces a user's id in the store.
    """

    def __init__(  # each is a setting of its own
        self,
        store: BudgetStore | str | PathLike[str] | None = None,
        *,
        clock: Clock | None = None,
        lease_seconds: float = LEASE_SECONDS,
        on_store_error: OnStoreError = "local_share",
        local_share: float = 0.1,
        conceal: Callable[[str], str] | None = None,
    ) -> None:
        if not lease_seconds > 0:
            raise ValueError(f"lease_seconds must be above 0, not {lease_seconds!r}")
        opened = open_store(store, clock)
        self._store: BudgetStore = (
            opened
            if isinstance(opened, MemoryStore)
            else WatchedStore(opened, on_store_error=on_store_error, local_share=local_share)
        )
        self._now = self._store.now
        self._lease_seconds = lease_seconds
        self._conceal = conceal or str
        self._budgets: dict[BudgetScope, dict[str, Budget]] = {}
        self._plans: dict[_ScopeKey, Plan] = {}
        self._latest = 0.0
        self._alarms = Alarms(self._store)
        self.forget_after_fork()
        renew_after_fork(self)

    def forget_after_fork(self) -> None:
        """Begin anew in a child: another thread of the parent may have held the lock."""
        self._lock = RLock()

    @property
    def is_remote(self) -> bool:
        """Whether reserving waits for a network, so that an event loop should not."""
        return self._store.is_remote

    def set_budget(
        self, budget: Budget, *, scope: BudgetScope = "global", entity_id: str = "*"
    ) -> None:
        """
        Set the budget of an entity, in the place of the one it had; what was used stays used.

        Args:
            budget: The limits.
            scope: Whose budget it is: global, org, user, agent, feature, session or model.
            entity_id: Which one; `*` gives the same budget to each that has none of its own.

        Raises:
            ValueError: For a scope that is unknown, or an entity of the global budget.
        """
        _check_target(scope, entity_id)
        with self._lock:
            self._budgets.setdefault(scope, {})[entity_id] = budget
            self._plans = {}

    def get_budget(self, *, scope: BudgetScope = "global", entity_id: str = "*") -> Budget | None:
        """Return the budget that an entity meets, its own or that of `*`."""
        _check_target(scope, entity_id)
        of_scope = self._budgets.get(scope, {})
        return of_scope.get(entity_id) or of_scope.get("*")

    def remove_budget(self, *, scope: BudgetScope = "global", entity_id: str = "*") -> None:
        """Take a budget away; what was used stays used, should it come back."""
        _check_target(scope, entity_id)
        with self._lock:
            self._budgets.get(scope, {}).pop(entity_id, None)
            self._plans = {}

    def on_alert(self, callback: AlertCallback) -> None:
        """Call `callback(alert)` at each level of a window, once; what it raises is logged."""
        self._alarms.callbacks.append(callback)

    def reserve(  # each is a fact of the call
        self,
        tokens: int,
        cost: Amount | None = 0,
        *,
        prompt_tokens: int | None = None,
        prompt_cost: Amount | None = None,
        min_output_tokens: int = 1,
        lease_seconds: float | None = None,
        **scope: Unpack[CallScope],
    ) -> Reservation:
        """
        Hold what a call may use at most, in all the windows it meets or in none.

        Args:
            tokens: The prompt and the largest output.
            cost: What they cost, in USD; None if no price is known, which a budget of USD
                does not allow.
            prompt_tokens: The prompt's part of the tokens. A budget that clamps grants fewer
                than `tokens`, but more than these; a call that breaks off costs these.
            prompt_cost: The prompt's part of the cost.
            min_output_tokens: The least output that is worth the call, where it is clamped.
            lease_seconds: How long the hold lasts if nobody settles it.
            **scope: Who causes the call: model, org_id, user_id, agent, feature, session_id,
                conversation_id, which stands for the session where none is given.

        Raises:
            BudgetExceededError: If a budget with `on_limit="error"` does not allow the call.
            InvalidCountError: For a number of tokens that cannot be one.
        """
        if type(tokens) is not int or tokens < 0:
            tokens = checked_count("tokens", tokens)
        key = tuple(scope.items())
        now = self._now()
        plan = self._plans.get(key)
        if plan is None or now >= plan.ends_at:
            plan = self._new_plan(key, now)
        windows, per_call, _, hard_cost = plan
        if cost is None and hard_cost is not None:
            raise unpriced(hard_cost, scope.get("model"))
        pico = pico_usd("cost", cost) if cost else 0
        if lease_seconds is None:
            lease_seconds = self._lease_seconds
        reservation = Reservation(
            self,
            windows,
            tokens,
            pico,
            tokens if prompt_tokens is None else checked_count("prompt_tokens", prompt_tokens),
            pico if prompt_cost is None else pico_usd("prompt_cost", prompt_cost),
            lease_seconds,
            now + lease_seconds,
            tokens,
        )
        if per_call:
            self._fit_call(per_call, reservation, min_output_tokens)
        if windows:
            answer = self._store.reserve(reservation)
            if answer is not None:
                self._fit(reservation, answer, key, min_output_tokens)
        return reservation

    def settle(
        self, reservation: Reservation, usage: Use | None = None, *, cost: Amount | None = None
    ) -> None:
        """
        Put what a call used in the place of what it held. A second settlement does nothing.

        Use goes to the windows that were reserved, also when they have ended meanwhile.

        Args:
            reservation: What `reserve` returned.
            usage: Tokens, a usage or a record; None, or a record of a call that reported
                nothing, keeps all that was held and marks it as an estimate.
            cost: What the call cost, in USD; the record's cost when not given, and without
                one what was held.
        """
        if reservation.is_settled:
            return
        tokens = _tokens_of(usage)
        pico = _pico_of(usage, cost)
        if tokens is None:
            reservation.is_estimate = True
        self._settle(
            reservation,
            reservation.tokens if tokens is None else tokens,
            reservation.pico_usd if pico is None else pico,
        )

    def cancel(self, reservation: Reservation) -> None:
        """Settle at the prompt's cost: the call was sent, but its answer was not taken."""
        reservation.is_estimate = not reservation.is_settled
        self._settle(reservation, reservation.prompt_tokens, reservation.prompt_pico_usd)

    def release(self, reservation: Reservation) -> None:
        """Give everything back: the call was never sent, or was refused unbilled."""
        self._settle(reservation, 0, 0)

    def renew(self, reservation: Reservation) -> None:
        """Hold a reservation for another lease, as for the chunks of a stream."""
        now = self._now()
        # A chunk comes every few milliseconds; the store need not hear of each.
        if now < reservation.lease_until - reservation.lease_seconds / 2:
            return
        reservation.lease_until = now + reservation.lease_seconds
        if reservation.windows:
            self._store.renew(reservation)

    def add(self, usage: Use, *, cost: Amount | None = None, **scope: Unpack[CallScope]) -> None:
        """Count a call that nothing was reserved for; it cannot be stopped any more."""
        plan = self._plan(tuple(scope.items()))
        pico = _pico_of(usage, cost)
        if plan.windows:
            used = self._store.add(plan.windows, _tokens_of(usage) or 0, pico or 0)
            if used:
                self._alarms.watch(plan.windows, used)

    def status(self, **scope: Unpack[CallScope]) -> BudgetStatus:
        """Return what is used, held and left in the windows that such a call would meet."""
        plan = self._plan(tuple(scope.items()))
        counts = self._store.read(plan.windows) if plan.windows else ()
        return BudgetStatus(tuple(map(window_status, plan.windows, counts)))

    def close(self) -> None:
        """Release what the store has open."""
        self._store.close()

    def __enter__(self) -> BudgetManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _plan(self, key: _ScopeKey) -> Plan:
        now = self._now()
        plan = self._plans.get(key)
        return self._new_plan(key, now) if plan is None or now >= plan.ends_at else plan

    def _new_plan(self, key: _ScopeKey, now: float) -> Plan:
        with self._lock:
            # A clock that is set back a little must not open a window again that has ended;
            # one that was far ahead must not close today's for ever.
            if self._latest - _LARGEST_STEP_BACK_SECONDS < now < self._latest:
                now = self._latest
            self._latest = now
            plan = plan_of(causer_of(dict(key)), self._budgets, now, self._conceal)
            if len(self._plans) >= _MOST_PLANS:
                self._plans = {}
            self._plans[key] = plan
        return plan

    def _fit_call(
        self, windows: tuple[Window, ...], reservation: Reservation, min_output_tokens: int
    ) -> None:
        refusal = exceeds_call_limit(windows, reservation)
        while refusal is not None:
            if not shrink(reservation, windows, refusal, min_output_tokens):
                raise exceeded(windows[refusal.position], refusal, reservation)
            refusal = exceeds_call_limit(windows, reservation)

    def _fit(
        self,
        reservation: Reservation,
        answer: Refusal | Outdated | None,
        key: _ScopeKey,
        min_output_tokens: int,
    ) -> None:
        """Ask again, for what there is room for, until the call fits or is refused."""
        for _ in range(_MOST_TRIES):
            if answer is None:
                return
            if isinstance(answer, str):
                reservation.windows = self._new_plan(key, self._now()).windows
            elif not shrink(reservation, reservation.windows, answer, min_output_tokens):
                break
            answer = self._store.reserve(reservation)
        if isinstance(answer, Refusal):
            window = reservation.windows[answer.position]
            self._alarms.refused(window, answer)
            raise exceeded(window, answer, reservation)
        if answer is not None:
            raise StorageError("the budgets' store changes its time with every question")

    def _settle(self, reservation: Reservation, tokens: int, pico: int) -> None:
        if reservation.windows:
            used = self._store.settle(reservation, tokens, pico)
            if used:
                self._alarms.watch(reservation.windows, used)
        reservation.is_settled = True


def _check_target(scope: str, entity_id: str) -> None:
    if scope not in SCOPES:
        raise ValueError(f"scope is one of {', '.join(SCOPES)}, not {scope!r}")
    if scope == "global" and entity_id != "*":
        raise ValueError(
            f"the global budget is everybody's and has no entity_id, but {entity_id!r} was "
            "given; name its scope: org, user, agent, feature, session or model"
        )


def _tokens_of(usage: Use | None) -> int | None:
    """Return the tokens of a use, embeddings included; None where they are not known."""
    if isinstance(usage, UsageRecord):
        if usage.is_unreported:
            return None
        usage = usage.usage
    if isinstance(usage, TokenUsage):
        return usage.total_tokens + usage.embedding_tokens
    return None if usage is None else checked_count("usage", usage)


def _pico_of(usage: Use | None, cost: Amount | None) -> int | None:
    if cost is not None:
        return pico_usd("cost", cost)
    return usage.cost_pico_usd if isinstance(usage, UsageRecord) else None
