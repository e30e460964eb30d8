"""`serve`: the receiving server."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final

import typer

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.errors import ConfigurationError

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
    data_dir: DataDirectory = None,
) -> None:
    """
    Receive the cycles of other machines, and store them in the data directory.

    Trackers deliver here when AGENTSIGHT_API_ENDPOINT names this server. Each call is stored
    once, however often it comes, and is acknowledged when it is on disk. Clients must show the
    key that AGENTSIGHT_API_KEY names here.

    [bold]Examples[/]

      agentsight-tokens serve

      AGENTSIGHT_API_KEY=... agentsight-tokens serve --host 0.0.0.0 --port 80
    """
    config = TokenConfig() if data_dir is None else TokenConfig().replace(data_dir=data_dir)
    if config.api_key is None and not _is_this_machine(host):
        raise ConfigurationError(
            f"--host {host} lets other machines in: set AGENTSIGHT_API_KEY to a long random key"
        )
    try:
        import uvicorn

        from agentsight_tokens.backend.app import create_app
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the server needs {error.name}: pip install 'agentsight-tokens[server]'"
        ) from None
    from agentsight_tokens.runtime import embedded_store

    store = embedded_store(config.directory)()
    app = create_app(store, api_key=config.api_key)
    settings = uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, timeout_keep_alive=60
    )
    listener = settings.bind_socket()
    address = f"[{host}]" if ":" in host else host
    typer.echo(f"listening on http://{address}:{listener.getsockname()[1]}")
    uvicorn.Server(settings).run(sockets=[listener])


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
