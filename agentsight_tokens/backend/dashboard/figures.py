"""Figures: numbers as a page shows them, each with its exact value beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Final, NamedTuple

from agentsight_tokens.summary import UsageSummary
from agentsight_tokens.usage import usd

__all__ = [
    "NOTHING",
    "Change",
    "Figure",
    "change",
    "cost_of",
    "count",
    "decimals_of",
    "duration",
    "moment",
    "money",
    "plain_usd",
    "plural",
    "share",
    "sparkline",
]

_PICO: Final = 10**12
_MOST_DECIMALS: Final = 6
_SHORT_FROM: Final = 10_000
_UNITS: Final = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))
_MINUTE: Final = 60
_SPARK_WIDTH, _SPARK_HEIGHT = 120, 32


class Figure(NamedTuple):
    """A number, short enough to be seen at once."""

    text: str
    exact: str = ""
    """Every digit, for the title."""
    is_known: bool = True
    """Whether it is a number: `unpriced` and `unreported` are none."""


NOTHING: Final = Figure("-", is_known=False)


class Change(NamedTuple):
    """How a number differs from the one before."""

    text: str
    is_more: bool
    before: str
    """What it was, for the title."""


def plain_usd(pico_usd: int) -> str:
    """Return USD with every digit: `0.000123`."""
    text = f"{usd(pico_usd):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def decimals_of(costs: Iterable[int | None]) -> int:
    """Return how many decimals show two digits of the smallest cost, 2 to 6 of them."""
    smallest = min((cost for cost in costs if cost), default=_PICO)
    return next((n for n in range(2, _MOST_DECIMALS) if smallest * 10**n >= 10 * _PICO), 6)


def money(pico_usd: int | None, *, decimals: int | None = None) -> Figure:
    """
    Return a cost.

    Args:
        pico_usd: In 10^-12 USD; None is not known, which is not 0.
        decimals: How many to show, so that the costs of a column stand in line.
    """
    if pico_usd is None:
        return Figure("unpriced", "no price is known", is_known=False)
    exact = f"{plain_usd(pico_usd)} USD"
    if not pico_usd:
        return Figure(f"${0:.{2 if decimals is None else decimals}f}", exact)
    if pico_usd >= 10**6 * _PICO:
        return Figure(f"${_short(usd(pico_usd))}", exact)
    places = decimals_of([pico_usd]) if decimals is None else decimals
    if pico_usd * 10**places < _PICO:
        return Figure(f"<${Decimal(1).scaleb(-places):f}", exact)
    return Figure(f"${usd(pico_usd):,.{places}f}", exact)


def cost_of(usage: UsageSummary, *, decimals: int | None = None) -> Figure:
    """Return what calls cost; calls of which nothing is known cost nothing that is known."""
    if usage.request_count and usage.unreported_calls == usage.request_count:
        return Figure("unreported", "the provider never said what was used", is_known=False)
    if not usage.cost_pico_usd and usage.unpriced_calls:
        return money(None)
    return money(usage.cost_pico_usd, decimals=decimals)


def count(number: int) -> Figure:
    """Return a number of tokens or calls: `9,812`, `14.2K`, `3.10M`."""
    exact = f"{number:,}"
    return Figure(exact if abs(number) < _SHORT_FROM else _short(Decimal(number)), exact)


def share(part: int, whole: int) -> Figure:
    """Return a part of a whole in percent."""
    if not whole:
        return NOTHING
    percent = Decimal(100 * part) / whole
    return Figure(_percent(percent), f"{part:,} of {whole:,}")


def change(now: int, before: int, was: Figure) -> Change | None:
    """Return by how much a number differs from the one before; None where that was nothing."""
    if not before:
        return None
    percent = Decimal(100 * (now - before)) / before
    sign = "+" if percent >= 0 else "-"
    return Change(f"{sign}{_percent(abs(percent))}", percent >= 0, was.exact or was.text)


def duration(seconds: float | None) -> Figure:
    """Return a span of time: `320 ms`, `4.2 s`, `3 min 5 s`."""
    if seconds is None:
        return NOTHING
    exact = f"{seconds:,.6f} s"
    if seconds < 1:
        return Figure(f"{seconds * 1000:.0f} ms", exact)
    if seconds < _MINUTE:
        return Figure(f"{seconds:.1f} s", exact)
    minutes, rest = divmod(round(seconds), _MINUTE)
    if minutes < _MINUTE:
        return Figure(f"{minutes} min {rest} s", exact)
    hours, minutes = divmod(minutes, _MINUTE)
    return Figure(f"{hours:,} h {minutes} min", exact)


def moment(at: datetime | None, zone: tzinfo) -> Figure:
    """Return a time in a zone, to the minute."""
    if at is None:
        return NOTHING
    local = at.astimezone(zone)
    return Figure(f"{local:%Y-%m-%d %H:%M}", local.isoformat(timespec="milliseconds"))


def sparkline(values: Sequence[int]) -> str:
    """Return the path of a line through values, in a box of 120 by 32; nothing for one value."""
    if len(values) < 2:  # a line has two ends
        return ""
    top = max(*values, 1)
    steps = len(values) - 1
    points = (
        f"{_SPARK_WIDTH * i / steps:.1f},{1 + (_SPARK_HEIGHT - 2) * (1 - value / top):.1f}"
        for i, value in enumerate(values)
    )
    return "M" + " L".join(points)


def plural(noun: str, number: int = 2) -> str:
    """Return a dimension's name for so many of them: `3 statuses`."""
    return noun if number == 1 else f"{noun}{'es' if noun.endswith('s') else 's'}"


def _percent(percent: Decimal) -> str:
    if percent and percent < Decimal("0.1"):
        return "<0.1%"
    return f"{percent:,.1f}%" if percent < 100 else f"{percent:,.0f}%"  # percent


def _short(number: Decimal) -> str:
    """Return three digits and a unit; what rounds up to a thousand is one of the next unit."""
    for size, unit in _UNITS:
        if abs(number) >= size * Decimal("0.9995"):
            scaled = number / size
            places = next(n for n in (2, 1, 0) if n == 0 or abs(round(scaled, n)) < 10 ** (3 - n))
            return f"{scaled:,.{places}f}{unit}"
    return f"{number:,.2f}"
