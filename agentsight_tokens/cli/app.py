"""The application: its commands, and what becomes of an error."""

from __future__ import annotations

import platform
import sqlite3
import sys
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from agentsight_tokens import __version__
from agentsight_tokens.errors import (
    AgentSightError,
    ConfigurationError,
    InvalidBudgetError,
    InvalidQueryError,
    InvalidScopeError,
)

from .alerts import alerts
from .budgets import budgets
from .calls import calls
from .count import count
from .db import db
from .demo import demo
from .doctor import doctor
from .export import export
from .importing import import_files
from .insights import insights
from .keys import keys
from .outbox import outbox
from .prices import prices
from .reconcile import reconcile
from .report import report
from .serve import serve
from .top import top

__all__ = ["app", "run"]

FAILED: Final = 1
WRONG_USE: Final = 2

_WRONG: Final = (ConfigurationError, InvalidBudgetError, InvalidQueryError, InvalidScopeError)

_EPILOG: Final = """\
[bold]Exit codes[/]: 0 done, also when there is nothing to show · 1 it failed, or something is \
broken · 2 wrong use or a setting that cannot be read.

[bold]Start here[/]: agentsight-tokens demo
"""


class _Commands(TyperGroup):
    """Turns the errors of commands into a line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; what is not expected goes through with its traceback."""
        try:
            return super().invoke(ctx)
        except _WRONG as error:
            raise _failure(str(error), WRONG_USE) from None
        except BrokenPipeError:  # whoever read the output has seen enough
            raise
        except (AgentSightError, sqlite3.Error, OSError) as error:
            raise _failure(str(error) or type(error).__name__, FAILED) from None


app: Final = typer.Typer(
    name="agentsight-tokens",
    cls=_Commands,
    help="Count, price and budget the tokens of every conversation.",
    epilog=_EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(demo)
app.command()(report)
app.command()(calls)
app.command()(top)
app.command()(insights)
app.command()(export)
app.command()(doctor)
app.add_typer(outbox, name="outbox")
app.add_typer(prices, name="prices")
app.command()(reconcile)
app.command()(count)
app.command("import")(import_files)
app.command()(serve)
app.add_typer(keys, name="keys")
app.add_typer(budgets, name="budgets")
app.command()(alerts)
app.add_typer(db, name="db")


def run() -> None:
    """Run the application on `sys.argv`, and exit."""
    for stream in (sys.stdout, sys.stderr):
        # An id that the terminal's encoding lacks must not end the report.
        getattr(stream, "reconfigure", dict)(errors="replace")
    app()


def _print_version(is_wanted: bool) -> None:  # noqa: FBT001  # so Typer calls it
    if is_wanted:
        typer.echo(f"agentsight-tokens {__version__} (Python {platform.python_version()})")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Take the options that come before a command."""


def _failure(message: str, code: int) -> typer.Exit:
    from .screen import failure  # only an error pays for rich

    return failure(message, code)
