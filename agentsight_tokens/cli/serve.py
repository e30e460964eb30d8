"""`serve`: the receiving server."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from agentsight_tokens.errors import ConfigurationError

from .database import DatabaseURL, opened_store, server_configuration
from .embedded import DataDirectory

__all__ = ["serve"]

PORT: Final = 8765


def serve(
    *,
    host: Annotated[
        str, typer.Option(help="The address to listen on; beyond this machine a key is needed.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")
    ] = PORT,
    database_url: DatabaseURL = None,
    data_dir: DataDirectory = None,
) -> None:
    """
    Receive the cycles of other machines, and store them.

    Trackers deliver here when AGENTSIGHT_API_ENDPOINT names this server. Each call is stored
    once, however often it comes, and is acknowledged when it is on disk. Clients must show a
    key that `keys create` has made, or the one that AGENTSIGHT_API_KEY names here; as long as
    there is none, everybody on this machine is let in.

    [bold]Examples[/]

      agentsight-tokens serve

      agentsight-tokens keys create production
      agentsight-tokens serve --host 0.0.0.0 --port 80
    """
    config = server_configuration(database_url, data_dir)
    try:
        import uvicorn

        from agentsight_tokens.backend.accounts import Accounts
        from agentsight_tokens.backend.app import create_app
        from agentsight_tokens.backend.gate import is_this_machine
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the server needs {error.name}: pip install 'agentsight-tokens[server]'"
        ) from None
    with opened_store(config) as store:
        is_local = is_this_machine(host)
        if config.api_key is None and not is_local and not Accounts(store).has_valid_key():
            raise ConfigurationError(
                f"--host {host} lets other machines in, and there is no key that is valid: "
                "agentsight-tokens keys create NAME"
            )
        app = create_app(store, api_key=config.api_key, is_open=is_local)
        settings = uvicorn.Config(
            app, host=host, port=port, log_level="warning", access_log=False, timeout_keep_alive=60
        )
        listener = settings.bind_socket()
        address = f"[{host}]" if ":" in host else host
        typer.echo(f"listening on http://{address}:{listener.getsockname()[1]}")
        uvicorn.Server(settings).run(sockets=[listener])
