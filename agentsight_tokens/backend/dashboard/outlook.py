"""The outlook: what the month will have cost, and the days that were out of the ordinary."""

from __future__ import annotations

from typing import NamedTuple

from agentsight_tokens.backend.analytics import Anomaly, Forecast

from .figures import Figure, money
from .selection import address

__all__ = ["AnomalyRow", "Outlook", "anomaly_row", "outlook_of"]


class Outlook(NamedTuple):
    """The forecast of the month's spend, or why there is none."""

    month: str
    so_far: Figure
    expected: Figure | None
    low: Figure
    high: Figure
    method: str
    backtest: str
    so_far_width: str
    """In percent of the highest end, as the others are."""
    low_at: str
    band_width: str
    expected_at: str


class AnomalyRow(NamedTuple):
    """A day that cost much more, or much less, than such days did."""

    day: str
    link: str
    value: str | None
    """Of the dimension by which was judged."""
    cost: Figure
    expected: Figure
    low: Figure
    high: Figure
    is_more: bool


def outlook_of(found: Forecast) -> Outlook:
    """Return a forecast as it is drawn."""
    so_far = money(found.so_far.cost_pico_usd)
    spend, test = found.spend_pico_usd, found.backtest
    if spend is None:
        nothing = money(None)
        return Outlook(
            found.month, so_far, None, nothing, nothing, found.method, "", "0", "0", "0", "0"
        )
    end = max(spend.high, spend.so_far, 1)
    return Outlook(
        month=found.month,
        so_far=so_far,
        expected=money(spend.expected),
        low=money(spend.low),
        high=money(spend.high),
        method=found.method,
        backtest=f"Of {test.forecasts} forecasts made so before, {test.within} came true"
        if test is not None and test.forecasts
        else "",
        so_far_width=_percent(spend.so_far, end),
        low_at=_percent(spend.low, end),
        band_width=_percent(spend.high - spend.low, end),
        expected_at=_percent(spend.expected, end),
    )


def anomaly_row(found: Anomaly, by: str | None) -> AnomalyRow:
    """Return an anomaly as a row."""
    parameters = {"range": "custom", "since": found.day, "until": found.day}
    if by is not None and found.value:
        parameters[by] = found.value
    return AnomalyRow(
        day=found.day,
        link=address("/usage", parameters),
        value=found.value,
        cost=money(found.observed_pico_usd),
        expected=money(found.expected_pico_usd),
        low=money(max(found.low_pico_usd, 0)),
        high=money(found.high_pico_usd),
        is_more=found.observed_pico_usd > found.expected_pico_usd,
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}"
