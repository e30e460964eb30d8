"""`serve`: the receiving server."""

from __future__ import annotations

import socket
from typing import Annotated, Final

import typer

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.errors import ConfigurationError

from .database import DatabaseURL, opened_store, server_configuration
from .embedded import DataDirectory

__all__ = ["serve"]

PORT: Final = 8765
_BACKLOG: Final = 2048


def serve(  # noqa: PLR0913  # the options of the command
    *,
    host: Annotated[
        str, typer.Option(help="The address to listen on; beyond this machine a key is needed.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")
    ] = PORT,
    workers: Annotated[
        int, typer.Option(min=1, help="The processes that serve; more than one on PostgreSQL only.")
    ] = 1,
    rate_limit: Annotated[
        float | None,
        typer.Option(min=0.01, help="Requests a second that a key may make in each process."),
    ] = None,
    keep_months: Annotated[
        int | None,
        typer.Option(min=0, help="Forget calls older than so many full months; see `db expire`."),
    ] = None,
    allow_private_webhooks: Annotated[
        bool,
        typer.Option(
            "--allow-private-webhooks",
            help="Let alerts be posted to private networks and to this machine.",
        ),
    ] = False,
    database_url: DatabaseURL = None,
    data_dir: DataDirectory = None,
) -> None:
    """
    Receive the cycles of other machines, store them, and show them in a dashboard.

    Trackers deliver here when AGENTSIGHT_API_ENDPOINT names this server. Each call is stored
    once, however often it comes, and is acknowledged when it is on disk. Clients must show a
    key that `keys create` has made, or the one that AGENTSIGHT_API_KEY names here; as long as
    there is none, everybody on this machine is let in. What the server has to say, a line for
    each request included, is on stderr in JSON; AGENTSIGHT_LOG_LEVEL sets how much.

    [bold]Examples[/]

      agentsight-tokens serve

      agentsight-tokens keys create production
      agentsight-tokens serve --host 0.0.0.0 --port 80

      agentsight-tokens serve --database-url postgresql://localhost/agentsight --workers 4
    """
    config = server_configuration(database_url, data_dir)
    try:
        from agentsight_tokens.backend.gate import is_this_machine
        from agentsight_tokens.backend.service import Service, run
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the server needs {error.name}: pip install 'agentsight-tokens[server]'"
        ) from None
    is_local = is_this_machine(host)
    _check(config, is_local=is_local, host=host, workers=workers)
    listener = _listener(host, port)
    address = f"[{host}]" if ":" in host else host
    url = f"http://{address}:{listener.getsockname()[1]}"
    typer.echo(f"listening on {url}")
    typer.echo(f"dashboard at {url}/")
    service = Service(
        database_url=config.database_url,
        directory=str(config.directory),
        api_key=config.api_key,
        is_open=is_local,
        requests_per_second=rate_limit,
        keep_months=keep_months,
        allow_private_webhooks=allow_private_webhooks,
        log_level=config.log_level,
    )
    run(service, listener, workers=workers)


def _check(config: TokenConfig, *, is_local: bool, host: str, workers: int) -> None:
    """Refuse to begin what cannot go on."""
    from agentsight_tokens.backend.accounts import Accounts
    from agentsight_tokens.backend.store.opening import is_postgresql

    if workers > 1 and not is_postgresql(config.database_url):
        raise ConfigurationError(
            f"--workers {workers} needs PostgreSQL: a file of SQLite has one writer at a time, "
            "which one process keeps busy"
        )
    with opened_store(config) as store:
        if config.api_key is None and not is_local and not Accounts(store).has_valid_key():
            raise ConfigurationError(
                f"--host {host} lets other machines in, and there is no key that is valid: "
                "agentsight-tokens keys create NAME"
            )


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(_BACKLOG)  # whoever reads the address may come at once
    return listener
