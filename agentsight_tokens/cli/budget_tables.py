"""Budgets and alerts of the server, as tables to read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from rich.text import Text

from agentsight_tokens.budgets.alerts import amount_text

from .screen import cell, screen
from .sheet import Column, print_sheet

if TYPE_CHECKING:
    from agentsight_tokens.backend.budgets import Alert, BudgetStanding, KeyStanding, ServerBudget

__all__ = ["print_alerts", "print_budgets", "print_standing"]

_FULL = 1.0
_NEAR = 0.8


def print_budgets(standings: Sequence[BudgetStanding]) -> None:
    """Print a project's budgets."""
    console = screen()
    if not standings:
        console.print(cell("There is no budget."))
        console.print("Make one: agentsight-tokens budgets create NAME --usd 100", markup=False)
        return
    nearest = [each.keys[0] if each.keys else None for each in standings]
    columns = [
        Column("name", [cell(_name(each.budget)) for each in standings]),
        Column("of", [cell(_owner(each.budget)) for each in standings], rank=2),
        Column("window", [cell(each.budget.window) for each in standings]),
        Column("limit", [cell(_limit(each.budget)) for each in standings], "number"),
        Column("used", [_used(each) for each in nearest], "number"),
        Column("nearest", [cell(each.key if each else "-") for each in nearest], rank=3, kind="id"),
        Column("resets", [cell(_time(each.resets_at)) for each in standings], rank=1),
        Column("id", [cell(each.budget.id) for each in standings]),
    ]
    print_sheet(console, columns)


def print_standing(standing: BudgetStanding) -> None:
    """Print a budget's current window."""
    console = screen()
    budget = standing.budget
    since = f"since {_time(standing.starts_at)}" if standing.starts_at else "ever"
    console.print(
        cell(f"{budget.name}: {_limit(budget)} per {budget.window} for {_owner(budget)}, {since}")
    )
    if not standing.keys:
        console.print(cell("Nothing is used."))
        return
    keys = standing.keys
    columns = [
        Column("key", [cell(key.key) for key in keys], "id"),
        Column("used", [_used(key) for key in keys], "number"),
        Column("tokens", [cell(f"{key.used_tokens:,}") for key in keys], "number"),
        Column("cost", [cell(_usd(key.used_cost_usd)) for key in keys], "number"),
        Column("calls", [cell(f"{key.calls:,}") for key in keys], "number", rank=2),
        Column("unpriced", [cell(f"{key.unpriced_calls:,}") for key in keys], "number", rank=3),
        Column("unreported", [cell(f"{key.unreported_calls:,}") for key in keys], "number", rank=3),
        Column("leads to", [cell(_leads_to(key)) for key in keys], "number", rank=1),
    ]
    print_sheet(console, columns)
    if standing.key_count > len(keys):
        console.print(cell(f"and {standing.key_count - len(keys):,} more"))
    if standing.resets_at is not None:
        console.print(
            cell(f"resets {_time(standing.resets_at)} · leads to: {standing.projection_method}")
        )


def print_alerts(alerts: Sequence[Alert]) -> None:
    """Print alerts, the newest first."""
    console = screen()
    if not alerts:
        console.print(cell("No budget has given an alert."))
        return
    columns = [
        Column("at", [cell(_time(each.at)) for each in alerts]),
        Column("budget", [cell(each.budget_name) for each in alerts]),
        Column("of", [cell(_key(each)) for each in alerts], "id"),
        Column("level", [_part(each.level) for each in alerts], "number"),
        Column("used", [cell(amount_text(each.used, each.unit)) for each in alerts], "number"),
        Column(
            "of limit", [cell(amount_text(each.limit, each.unit)) for each in alerts], "number", 1
        ),
        Column("webhooks", [cell(_told(each)) for each in alerts], rank=2),
    ]
    print_sheet(console, columns)


def _name(budget: ServerBudget) -> str:
    return budget.name if budget.enabled else f"{budget.name} (silent)"


def _owner(budget: ServerBudget) -> str:
    if budget.scope == "global":
        return "all calls"
    return f"each {budget.scope}" if budget.value == "*" else f"{budget.scope} {budget.value}"


def _key(alert: Alert) -> str:
    return "all calls" if alert.scope == "global" else f"{alert.scope} {alert.key}"


def _limit(budget: ServerBudget) -> str:
    parts = []
    if budget.token_limit is not None:
        parts.append(f"{budget.token_limit:,} tokens")
    if budget.cost_limit_usd is not None:
        parts.append(_usd(budget.cost_limit_usd))
    return " or ".join(parts)


def _used(key: KeyStanding | None) -> Text:
    return _part(key.fraction) if key else cell("-")


def _part(part: float) -> Text:
    style = "red" if part >= _FULL else "yellow" if part >= _NEAR else ""
    return cell(f"{part:.0%}", style=style)


def _leads_to(key: KeyStanding) -> str:
    if key.projection is None:
        return "-"
    text = f"{key.projection.tokens:,} tokens, {_usd(key.projection.cost_usd)}"
    if key.projection.exhausted_at is not None:
        text += f", full {_time(key.projection.exhausted_at)}"
    return text


def _told(alert: Alert) -> str:
    states = [each.state.replace("_", " ") for each in alert.deliveries]
    return ", ".join(f"{states.count(each)} {each}" for each in dict.fromkeys(states)) or "-"


def _usd(amount: Decimal) -> str:
    return amount_text(amount, "usd")


def _time(at: datetime | None) -> str:
    return "never" if at is None else f"{at:%Y-%m-%d %H:%M}"
