"""Refusals: a call that does not fit is granted less, or stopped with all that is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agentsight_tokens.errors import BudgetExceededError
from agentsight_tokens.usage import usd

from .alerts import amount_text, owner_text
from .reservation import Reservation
from .store import Counts, Refusal, first_refusal
from .windows import Unit, Window

__all__ = ["exceeded", "exceeds_call_limit", "shrink", "store_is_away", "unpriced"]

_NOTHING = Counts()


def exceeds_call_limit(windows: Sequence[Window], reservation: Reservation) -> Refusal | None:
    """Return the limit on single calls that a call exceeds; None if it exceeds none."""
    nothing = [_NOTHING] * len(windows)
    return first_refusal(windows, nothing, reservation.tokens, reservation.pico_usd)


def shrink(
    reservation: Reservation,
    windows: Sequence[Window],
    refusal: Refusal,
    min_output_tokens: int,
) -> bool:
    """
    Let a reservation ask for what there is room for, if the refusing budget clamps.

    Returns:
        Whether there is room for the prompt and the least output.
    """
    if not windows[refusal.position].budget.clamp:
        return False
    output = reservation.tokens - reservation.prompt_tokens
    output_pico = reservation.pico_usd - reservation.prompt_pico_usd
    granted = output
    for tokens_left, pico_left in _room(windows, refusal.counts):
        granted = min(granted, tokens_left - reservation.prompt_tokens)
        if output_pico > 0:
            pico_left -= reservation.prompt_pico_usd
            granted = min(granted, pico_left * output // output_pico)
    if granted < max(min_output_tokens, 1):
        return False
    reservation.tokens = reservation.prompt_tokens + granted
    reservation.pico_usd = reservation.prompt_pico_usd - (-output_pico * granted // output)
    return True


def exceeded(window: Window, refusal: Refusal, reservation: Reservation) -> BudgetExceededError:
    """Return the error of a call that a window refuses."""
    counts = refusal.counts[refusal.position]
    if refusal.unit == "tokens":
        used, held, asked = counts.used_tokens, counts.held_tokens, reservation.tokens
    else:
        used, held, asked = counts.used_pico, counts.held_pico, reservation.pico_usd
    return _error(window, refusal.unit, used, held, asked)


def unpriced(window: Window, model: str | None) -> BudgetExceededError:
    """Return the error of a call whose price is not known, where a budget needs it."""
    return BudgetExceededError(
        f"the budget of {owner_text(window.scope, window.entity_id)} limits USD per {window.name}, and no price is known "
        f"for {model!r}: give one with cost_rates, or limit tokens instead",
        scope=window.scope,
        entity_id=window.entity_id,
        window=window.name,
        unit="usd",
        requested=None,
        limit=usd(window.pico_limit or 0),
        resets_at=window.resets_at,
    )


def store_is_away(window: Window, reservation: Reservation, reason: str) -> BudgetExceededError:
    """Return the error of a call that nobody can check, where that means to stop it."""
    return BudgetExceededError(
        f"the budget of {owner_text(window.scope, window.entity_id)} cannot be checked, and on_store_error is 'closed': "
        f"{reason}",
        scope=window.scope,
        entity_id=window.entity_id,
        window=window.name,
        requested=reservation.tokens,
        limit=window.token_limit or 0,
        resets_at=window.resets_at,
    )


def _room(windows: Sequence[Window], counts: Sequence[Counts]) -> Iterator[tuple[int, int]]:
    for window, of_window in zip(windows, counts, strict=True):
        if window.budget.clamp:  # the others refuse what does not fit as it was asked for
            yield (
                window.hard_tokens - of_window.used_tokens - of_window.held_tokens,
                window.hard_pico - of_window.used_pico - of_window.held_pico,
            )


def _error(window: Window, unit: Unit, used: int, held: int, asked: int) -> BudgetExceededError:
    limit = window.limit_of(unit) or 0
    amounts = [used, held, asked, limit]
    if unit == "usd":
        used, held, asked, limit = (usd(amount) for amount in amounts)  # type: ignore[assignment]  # Decimal from here on
    texts = [amount_text(amount, unit) for amount in (used, limit, held, asked)]
    until = f", until {window.resets_at:%Y-%m-%d %H:%M} UTC" if window.resets_at else ""
    # Without a maximum a call holds all that its model can produce, which is often the reason.
    advice = "; set max_tokens on the call, or raise the limit" if asked > limit else ""
    return BudgetExceededError(
        f"the budget of {owner_text(window.scope, window.entity_id)} does not allow this call: "
        f"used {texts[0]} of {texts[1]} per {window.name}, {texts[2]} held by running calls, "
        f"{texts[3]} needed{until}{advice}",
        scope=window.scope,
        entity_id=window.entity_id,
        window=window.name,
        unit=unit,
        used=used,
        held=held,
        requested=asked,
        limit=limit,
        resets_at=window.resets_at,
    )
