"""`import`: calls that others have logged, into the store, a server or a database."""

from __future__ import annotations

import contextlib
import glob
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from agentsight_tokens.errors import AgentSightWarning, DestinationError

from .database import DatabaseURL, server_configuration
from .embedded import DataDirectory
from .times import read_time

if TYPE_CHECKING:
    from agentsight_tokens.config import TokenConfig
    from agentsight_tokens.destinations import Destination
    from agentsight_tokens.importing import Importer, Source, Summary

__all__ = ["import_files"]


class Origin(str, Enum):
    """What a file is."""

    responses = "responses"
    litellm = "litellm"
    langfuse = "langfuse"


_WHERE: Final = "Where the calls go"
_WHO: Final = "Where a row does not say"


def import_files(  # noqa: PLR0913  # the options of the command
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Files, gzip too; - for stdin.")
    ],
    *,
    origin: Annotated[
        Origin | None,
        typer.Option("--from", help="What they are; by default as their first rows tell."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look only; store nothing.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin at the first row, and not where it ended.")
    ] = False,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A server, by default AGENTSIGHT_API_ENDPOINT; its key is AGENTSIGHT_API_KEY.",
            rich_help_panel=_WHERE,
        ),
    ] = None,
    database_url: DatabaseURL = None,
    data_dir: DataDirectory = None,
    conversation: Annotated[str | None, typer.Option(rich_help_panel=_WHO)] = None,
    user: Annotated[str | None, typer.Option(rich_help_panel=_WHO)] = None,
    org: Annotated[str | None, typer.Option(rich_help_panel=_WHO)] = None,
    agent: Annotated[str | None, typer.Option(rich_help_panel=_WHO)] = None,
    feature: Annotated[str | None, typer.Option(rich_help_panel=_WHO)] = None,
    tag: Annotated[list[str] | None, typer.Option(rich_help_panel=_WHO)] = None,
    provider: Annotated[str | None, typer.Option(rich_help_panel=_WHO)] = None,
    environment: Annotated[str | None, typer.Option(rich_help_panel=_WHO)] = None,
    at: Annotated[
        str | None,
        typer.Option(help="When the calls were made, such as 2026-01-31.", rich_help_panel=_WHO),
    ] = None,
) -> None:
    """
    Import calls that others have logged; each counts once.

    Known are logs of responses (a body of OpenAI, Anthropic or a like in each
    line, alone, as "response" beside "request" and "timestamp", or as their
    batches write it), exports of LiteLLM's spend logs, and of Langfuse's
    observations, as JSON lines, JSON or CSV.

    Rows that cannot be read are set aside in a file and stop nothing. Run it
    again after an interruption, or when a file has grown: it goes on where it
    ended.

    [bold]Examples[/]

      agentsight-tokens import responses.jsonl --feature support

      agentsight-tokens import spend_logs.csv.gz --dry-run

      agentsight-tokens import observations.jsonl --endpoint https://ledger.example.com
    """
    from agentsight_tokens.configured import estimator_of
    from agentsight_tokens.importing import Defaults, Importer, Source

    from .import_summary import print_summaries

    config = server_configuration(database_url, data_dir)
    if endpoint is not None and database_url is not None:
        raise typer.BadParameter("give --endpoint or --database-url, not both")
    if database_url is None and data_dir is None:
        endpoint = endpoint or config.endpoint
    made_at = read_time("--at", at, timezone.utc, now=datetime.now(timezone.utc))
    defaults = Defaults(
        conversation_id=conversation,
        user_id=user,
        org_id=org,
        agent=agent,
        feature=feature,
        tags=tuple(tag or ()),
        provider=provider,
        environment=environment or config.environment,
        at=made_at,
    )
    sources = [Source(path) for each in files for path in _expanded(each)]
    with (
        _opened(config, endpoint, is_dry=dry_run) as destination,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", AgentSightWarning)  # the summary says it
        importer = Importer(destination, estimator_of(config), config, defaults)
        summaries: list[Summary] = []
        try:
            summaries.extend(
                _import(importer, source, origin, restart=restart) for source in sources
            )
        except DestinationError as error:
            raise DestinationError(
                f"{error}; run the same command again: it goes on where it ended"
            ) from error
        finally:
            if summaries:
                print_summaries(summaries, is_dry=dry_run, endpoint=endpoint)


def _import(importer: Importer, source: Source, origin: Origin | None, *, restart: bool) -> Summary:
    form = source.format() if origin is None else origin.value
    with _progress(source) as progress:
        return importer.run(source, form, restart=restart, progress=progress)


def _expanded(path: str) -> list[str]:
    # A shell does it, but for Windows's.
    return sorted(glob.glob(path)) or [path] if "*" in path else [path]  # noqa: PTH207  # of a text


@contextlib.contextmanager
def _opened(
    config: TokenConfig, endpoint: str | None, *, is_dry: bool
) -> Iterator[Destination | None]:
    if is_dry:
        yield None
        return
    destination = _destination(config, endpoint)
    try:
        destination.check()
        yield destination
    finally:
        destination.close()


def _destination(config: TokenConfig, endpoint: str | None) -> Destination:
    from agentsight_tokens.configured import embedded_store
    from agentsight_tokens.destinations.embedded import EmbeddedDestination
    from agentsight_tokens.destinations.http import HTTPDestination

    if endpoint is not None:
        return HTTPDestination(
            endpoint, config.api_key, timeout_seconds=max(config.http_timeout_seconds, 60.0)
        )
    if config.database_url is None:
        return EmbeddedDestination(embedded_store(config.directory))
    from agentsight_tokens.importing.database import DatabaseDestination

    return DatabaseDestination(config.database_url, config.directory)


@contextlib.contextmanager
def _progress(source: Source) -> Iterator[Callable[[Summary], object]]:
    """Show on stderr how far it is, if somebody watches."""
    from .screen import screen

    console = screen(is_stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns: Sequence[Any] = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[rows]:,} rows, {task.fields[calls]:,} calls"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(source.name, total=source.size, rows=0, calls=0)

        def show(summary: Summary) -> None:
            completed = summary.offset or None
            bar.update(task, rows=summary.rows, calls=summary.calls, completed=completed)

        yield show
