"""Insights: what they are made of, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from math import ceil
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from agentsight_tokens.backend.analytics import (
    Anomalies,
    CacheReport,
    Forecast,
    Projection,
    Recommendation,
    Recommendations,
    Trend,
    anomalies,
    cache_use,
    forecast,
    recommendations,
    trend,
)
from agentsight_tokens.backend.analytics.anomalies import MOST_DAYS
from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.usage import usd

from .filters import Selection
from .screen import cell, cost_decimals, cost_text, plural, screen, show
from .usage_table import print_what_is_missing

if TYPE_CHECKING:
    from agentsight_tokens.backend.store import Reader

__all__ = ["Insights", "insights_of", "print_insights"]

_BARS: Final = " ▁▂▃▄▅▆▇█"
_MOST_BARS: Final = 60
_LISTED: Final = 5


class Insights(NamedTuple):
    """What follows from usage."""

    trend: Trend
    forecast: Forecast
    anomalies: Anomalies
    cache: CacheReport
    recommendations: Recommendations

    def rows(self) -> Iterator[tuple[str, str | None, str | None, str]]:
        """Return each as one line: its kind, what it is about, an amount in USD and words."""
        total = self.trend.total
        yield "spend", None, _exact(total.cost_pico_usd), _change_text(self.trend)
        spend = self.forecast.spend_pico_usd
        expected = None if spend is None else _exact(spend.expected)
        yield "forecast", self.forecast.month, expected, self.forecast.method
        for anomaly in self.anomalies.found:
            words = f"expected {_exact(anomaly.expected_pico_usd)}"
            yield "anomaly", anomaly.day, _exact(anomaly.observed_pico_usd), words
        saved = self.cache.total.saved_pico_usd
        yield "cache_saved", None, None if saved is None else _exact(saved), _hit_text(self.cache)
        for each in self.recommendations.found:
            saving = None if each.saving_pico_usd is None else _exact(each.saving_pico_usd)
            yield each.kind, each.model, saving, f"{each.advice}. {each.evidence}"


def insights_of(reader: Reader, selection: Selection, *, prices_file: str | None) -> Insights:
    """Return what follows from the calls that are selected."""
    where, zone = selection.where, selection.zone
    estimator = CostEstimator(prices_file=prices_file)
    found = trend(reader, where=where, zone=zone, period=_period(selection))
    span = {**where, "since": found.since}
    return Insights(
        found,
        forecast(reader, where=where, zone=zone),
        anomalies(reader, where={**where, "since": _judged_since(found)}, zone=zone),
        cache_use(reader, where=span, estimator=estimator),
        recommendations(reader, where=span, estimator=estimator),
    )


def print_insights(found: Insights, selection: Selection) -> None:
    """Print them, a section each."""
    console = screen()
    _print_trend(console, found.trend, selection)
    _print_forecast(console, found.forecast)
    _print_anomalies(console, found.anomalies)
    _head(console, "Prompt caches", _hit_text(found.cache))
    _line(console, _saved_text(found.cache))
    _print_recommendations(console, found.recommendations)


def _judged_since(found: Trend) -> datetime:
    return max(found.since, found.until - timedelta(days=MOST_DAYS - 1))


def _period(selection: Selection) -> str:
    since, until = selection.where.get("since"), selection.where.get("until")
    if since is None:
        return "day"
    days = ((until or datetime.now(timezone.utc)) - since).days
    return (
        "hour" if days < 3 else "day" if days <= _MOST_BARS else "week" if days <= 420 else "month"
    )


def _print_trend(console: Console, found: Trend, selection: Selection) -> None:
    total = found.total
    since = found.since.astimezone(selection.zone)
    _head(
        console,
        "Spend",
        f"{cost_text(total.cost_pico_usd, _decimals(total.cost_pico_usd))} in "
        f"{plural(total.request_count, 'call')} since {since:%Y-%m-%d}"
        + (f" · {selection.words}" if selection.where else ""),
    )
    _line(console, _change_text(found))
    costs = [point.usage.cost_pico_usd for point in found.points[-_MOST_BARS:]]
    if any(costs):
        peak = max(found.points, key=lambda point: point.usage.cost_pico_usd)
        most = peak.usage.cost_pico_usd
        _line(console, _bars(costs))
        _line(
            console,
            f"each bar is one {found.period}; the highest, {peak.name}, is "
            f"{cost_text(most, _decimals(most))}",
        )
    print_what_is_missing(console, total)


def _print_forecast(console: Console, found: Forecast) -> None:
    spend = found.spend_pico_usd
    if spend is None:
        _head(console, f"Forecast for {found.month}", "none yet")
        _line(console, found.method)
        return
    _head(console, f"Forecast for {found.month}", _projected_text(spend))
    _line(console, found.method)
    test = found.backtest
    if test is not None and test.forecasts:
        _line(
            console,
            f"of {plural(test.forecasts, 'forecast')} over as many days made for the time "
            f"before, {test.within} would have held what came",
        )


def _projected_text(spend: Projection) -> str:
    amounts = (spend.expected, spend.low, spend.high, spend.so_far)
    decimals = cost_decimals(amounts)
    expected, low, high, so_far = (cost_text(each, decimals) for each in amounts)
    return f"{expected}, probably {low} to {high}; {so_far} so far"


def _print_anomalies(console: Console, found: Anomalies) -> None:
    if not found.judged_days:
        words = f"no day has the {found.needed_days} days before it that judging takes"
        _head(console, "Unusual days", words)
        return
    count = len(found.found)
    _head(
        console,
        "Unusual days",
        f"{count or 'none'} of {plural(found.judged_days, 'day')} since {found.since}",
    )
    for each in found.found[:_LISTED]:
        amounts = (
            each.observed_pico_usd,
            each.expected_pico_usd,
            each.low_pico_usd,
            each.high_pico_usd,
        )
        decimals = cost_decimals(amounts)
        observed, expected, low, high = (cost_text(amount, decimals) for amount in amounts)
        _line(console, f"{each.day}  {observed} where {expected} is usual ({low} to {high})")
    _more(console, count)


def _print_recommendations(console: Console, found: Recommendations) -> None:
    count = len(found.found)
    sample = found.sample
    seen = plural(sample.calls, "call")
    if sample.since is not None:
        seen = f"the newest {seen} of {sample.of_calls:,}"
    _head(console, "Recommendations", f"{count or 'none'}, from {seen}")
    for each in found.found[:_LISTED]:
        _line(console, _worth(each).append_text(cell(f"  {each.advice}")))
        _line(console, Text(each.evidence, style="dim"), indent=4)
    _more(console, count)


def _worth(each: Recommendation) -> Text:
    if each.saving_pico_usd is not None:
        saved = cost_text(each.saving_pico_usd, _decimals(each.saving_pico_usd))
        return Text(f"save {saved}", style="green")
    if each.cost_pico_usd:
        return Text(f"cost {cost_text(each.cost_pico_usd, _decimals(each.cost_pico_usd))}")
    return Text("unknown", style="yellow")


def _more(console: Console, count: int) -> None:
    if count > _LISTED:
        _line(console, f"{count - _LISTED} more: --format json has all of them")


def _change_text(found: Trend) -> str:
    days = ceil((found.until - found.since) / timedelta(days=1))
    span = "day" if days == 1 else f"{days:,} days"
    if found.cost_change is None:
        return f"there is nothing in the {span} before to compare with"
    if found.direction == "flat":
        return f"about as much as in the {span} before"
    more = "more" if found.cost_change > 0 else "less"
    return f"{abs(found.cost_change):.0%} {more} than in the {span} before"


def _hit_text(found: CacheReport) -> str:
    ratio = found.total.hit_ratio
    return "no input" if ratio is None else f"{ratio:.0%} of the input was read from them"


def _saved_text(found: CacheReport) -> str:
    saved = found.total.saved_pico_usd
    if saved is None:
        words = "what that saved is not known"
    elif saved < 0:
        words = f"writing cost {cost_text(-saved, _decimals(-saved))} more than reading saved"
    else:
        words = f"saved {cost_text(saved, _decimals(saved))}"
    if found.total.unknown_tokens and saved is not None:
        words += f", {plural(found.total.unknown_tokens, 'token')} without a known price left out"
    return words + (", estimated from daily sums" if found.is_estimated else "")


def _bars(costs: Sequence[int]) -> str:
    most = max(costs)
    return "".join(_BARS[-(-cost * (len(_BARS) - 1) // most)] for cost in costs)


def _head(console: Console, title: str, words: str) -> None:
    console.print()
    line = Text(f"{title}: ", style="bold").append_text(cell(words, style="not bold"))
    show(console, line)


def _line(console: Console, words: str | Text, *, indent: int = 2) -> None:
    text = words if isinstance(words, Text) else cell(words)
    show(console, Padding(text, (0, 0, 0, indent)))


def _decimals(pico_usd: int) -> int:
    return cost_decimals([pico_usd])


def _exact(pico_usd: int) -> str:
    return f"{usd(pico_usd):f}"
