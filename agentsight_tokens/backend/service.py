"""The service: a server with its store, as each of its processes makes it."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing.connection
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import uvicorn
from uvicorn.supervisors import Multiprocess

from agentsight_tokens.config import share_metrics_in

from .logs import write_logs
from .store import open_store

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["Service", "run"]

_SHUTDOWN_SECONDS: Final = 15
"""How long requests that run may take to end."""

_NEW_OBJECTS_A_COLLECTION: Final = 50_000


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """What a process needs to know to serve; it is handed to each."""

    database_url: str | None
    directory: str
    """The data directory, where the store is if there is no address."""
    api_key: str | None = None
    is_open: bool = False
    requests_per_second: float | None = None
    keep_months: int | None = None
    allow_private_webhooks: bool = False
    log_level: str | None = None
    metrics_directory: str | None = None
    """Where the processes add up what they count, if there are several."""

    def __call__(self) -> Starlette:
        """Return the application of this process."""
        if self.metrics_directory is not None:
            share_metrics_in(self.metrics_directory)
            _end_with_parent()
        # Imported here: how metrics are kept is settled when their library is.
        from .app import create_app
        from .endpoint import Limits
        from .metrics import Metrics

        write_logs(self.log_level)
        app = create_app(
            open_store(self.database_url, Path(self.directory)),
            api_key=self.api_key,
            is_open=self.is_open,
            limits=Limits(requests_per_second=self.requests_per_second),
            metrics=Metrics(self.metrics_directory),
            keep_months=self.keep_months,
            allow_private_webhooks=self.allow_private_webhooks,
        )
        _collect_seldom()
        return app


def run(service: Service, listener: socket.socket, *, workers: int = 1) -> None:
    """
    Serve until a signal ends it; requests that run are finished first.

    Args:
        service: What to serve.
        listener: A socket that is bound.
        workers: How many processes.
    """
    with _metrics_directory(workers) as directory:
        settings = uvicorn.Config(
            msgspec.structs.replace(service, metrics_directory=directory),
            factory=True,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            workers=workers,
        )
        if workers == 1:
            uvicorn.Server(settings).run(sockets=[listener])
        else:
            write_logs(service.log_level)
            Multiprocess(settings, sockets=[listener]).run()


def _collect_seldom() -> None:
    """
    Let the collector of cyclic garbage look at what lasts no more, and at the rest seldom.

    Calls are thousands of tuples that live until they are committed and are in no circle: by
    Python's own setting they would all be looked through again and again, for nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS_A_COLLECTION)


def _end_with_parent() -> None:
    """End this process when the one that looks after it is killed: it would keep the port."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="agentsight-parent", daemon=True).start()


@contextlib.contextmanager
def _metrics_directory(workers: int) -> Iterator[str | None]:
    if workers == 1:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="agentsight-metrics-") as directory:
        yield directory
