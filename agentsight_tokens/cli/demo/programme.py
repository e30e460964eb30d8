"""What the audience of the demo reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.text import Text

from agentsight_tokens import SendResult, UsageRecord
from agentsight_tokens.backend.analytics import UsageReport
from agentsight_tokens.cli.nothing import FIRST_LINES, FIRST_LINES_BY_HAND, indented
from agentsight_tokens.cli.screen import cell, cost_text, plural, screen
from agentsight_tokens.cli.usage_table import print_usage, print_what_is_missing
from agentsight_tokens.usage import PICO_PER_USD

from .clients import Framework
from .comparison import Comparison
from .script import Conversation, Step

__all__ = ["Programme"]

INSTALL: Final = "pip install 'agentsight-tokens[demo]'"
"""What installs every framework that the demo shows."""

_DECIMALS: Final = 6


class Programme:
    """Prints the demo's scenes on stdout, and the waiting between them on stderr."""

    def __init__(self) -> None:
        self._console = screen()

    def print_opening(
        self, installed: Sequence[Framework], missing: Sequence[Framework], *, is_live: bool
    ) -> None:
        """Say what is going to be shown, and what could be."""
        clients = " and ".join(f"{each.title} {each.version}" for each in installed)
        how = f"with the clients of {clients}" if clients else "with plain HTTP requests"
        whom = (
            "against your own provider"
            if is_live
            else "against a provider on this machine that bills every call in a ledger of its own"
        )
        self._console.print(f"[bold]Three conversations by two users[/], {how}, {whom}.")
        if missing:
            titles = " and ".join(each.title for each in missing)
            self._console.print(f"\nTo see {titles} counted too:\n")
            self._console.print(indented(INSTALL), markup=False)

    def print_conversation(self, conversation: Conversation, client: str) -> None:
        """Print who begins a conversation."""
        line = Text("\n").append(conversation.id, style="bold")
        self._console.print(line.append(f"  {conversation.user_id}, {client}", style="dim"))

    def print_step(self, step: Step, calls: Sequence[UsageRecord]) -> None:
        """Print a call as it was counted."""
        text = step.texts[0] if step.kind != "embed" else plural(len(step.texts), "text")
        for call in calls:
            read = call.input_tokens + call.embedding_tokens
            line = Text("  ").append(f"{step.kind:6}", style="cyan").append("  ")
            line.append_text(cell(f"{text:32}")).append(f"{read:9,} in{call.output_tokens:8,} out")
            line.append(f"{cost_text(call.cost_pico_usd, _DECIMALS):>13}", style="dim")
            self._console.print(line)

    def print_cycle(self, result: SendResult, *, calls: int) -> None:
        """Print what has become of a conversation's cycle."""
        tokens = result.totals.total_tokens + result.totals.embedding_tokens
        style = "bold green" if result.status == "delivered" else "bold yellow"
        line = Text("  sent    ").append(result.status, style=style)
        line.append(f": {plural(calls, 'call')}, {plural(tokens, 'token')}, ")
        line.append(cost_text(int(result.cost * PICO_PER_USD), _DECIMALS))
        self._console.print(line.append(f" ({result.error})" if result.error else ""))

    def print_report(self, *reports: UsageReport) -> None:
        """Print what is stored."""
        for report in reports:
            self._console.print()
            name = report.by[0].removesuffix("_id")
            print_usage(self._console, report, title=f"agentsight-tokens report --by {name}")
        print_what_is_missing(self._console, reports[0].total)

    def print_comparison(self, comparison: Comparison) -> None:
        """Print whether the two ledgers agree."""
        is_equal = not comparison.differences
        line = Text("\n").append(
            f"The provider billed {comparison.billed_tokens:,} tokens in "
            f"{plural(comparison.billed_calls, 'call')}; the ledger holds "
            f"{comparison.stored_tokens:,} in {comparison.stored_calls:,}: "
        )
        verdict = ("equal.", "bold green") if is_equal else ("different.", "bold red")
        self._console.print(line.append(*verdict))
        for difference in comparison.differences:
            self._console.print(cell(f"  {difference}"))

    def print_live(self) -> None:
        """Say where the bill of a live run is."""
        self._console.print(
            "\nYour provider has the other ledger: compare with the usage page of your account."
        )

    def print_end(self, kept: Path | None, *, is_by_hand: bool) -> None:
        """Say what to do next."""
        self._console.print("\n[bold]Your own calls[/], in a few lines:\n")
        lines = FIRST_LINES_BY_HAND if is_by_hand else FIRST_LINES
        self._console.print(indented(lines), markup=False)
        self._console.print()
        if kept is None:
            self._console.print("Then: agentsight-tokens report --by conversation")
        else:
            self._console.print("The data are kept:\n")
            line = cell(f"  agentsight-tokens report --data-dir {kept}")
            self._console.print(line, soft_wrap=True)
