"""A connection to an HTTP server: kept alive, verified, through the proxies of the environment."""

from __future__ import annotations

import gzip
import urllib.request
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from agentsight_tokens.errors import ConfigurationError, DestinationUnavailableError

from .responses import raise_for_status

if TYPE_CHECKING:
    from urllib3 import PoolManager

__all__ = ["Answer", "HTTPConnection", "checked_endpoint"]

CONNECT_SECONDS: Final = 5.0
GZIP_BYTES: Final = 1000
"""Smaller bodies are sent as they are."""
ANSWER_BYTES: Final = 8_000_000
"""More of an answer is not read."""


class Answer(NamedTuple):
    """An answer that is no failure."""

    status: int
    body: bytes


def checked_endpoint(endpoint: str, variable: str) -> str:
    """
    Return an address without a slash at its end.

    Raises:
        ConfigurationError: If it is no address of an HTTP server.
    """
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(
            f"{variable}={endpoint!r} is no address; write it as https://example.com"
        )
    return endpoint.rstrip("/")


class HTTPConnection:
    """
    Posts to one server.

    Args:
        endpoint: The server's address.
        headers: Sent with every request.
        timeout_seconds: How long a request may take.
    """

    def __init__(
        self, endpoint: str, headers: Mapping[str, str], *, timeout_seconds: float
    ) -> None:
        self._endpoint = endpoint
        self._headers = {
            "User-Agent": f"agentsight-tokens/{version('agentsight-tokens')}",
            **headers,
        }
        self._timeout_seconds = timeout_seconds
        self._pool: PoolManager | None = None

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """
        Post a body, compressed where that pays.

        Raises:
            DeliveryRefusedError: The server refuses it for what is in it.
            DestinationUnavailableError: It does not take it now.
        """
        given = {**self._headers, **headers}
        if len(body) >= GZIP_BYTES:
            body = gzip.compress(body, compresslevel=1, mtime=0)
            given["Content-Encoding"] = "gzip"
        return self._post(self._endpoint + path, body, given)

    def close(self) -> None:
        """Close the connection."""
        if self._pool is not None:
            self._pool.clear()
            self._pool = None

    def forget_after_fork(self) -> None:
        """Leave the parent's connection to the parent."""
        self._pool = None

    def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        # Imported with the first delivery, in the sender's thread.
        from urllib3.exceptions import HTTPError, ProtocolError

        try:
            try:
                return self._attempt(url, body, headers)
            except ProtocolError:
                # The server may have closed a connection that was kept alive.
                return self._attempt(url, body, headers)
        except (HTTPError, OSError) as error:
            raise DestinationUnavailableError(_without_pool(error)) from error

    def _attempt(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        response = self._opened(url).request(
            "POST",
            url,
            body=body,
            headers=headers,
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            content = response.read(ANSWER_BYTES, decode_content=True)
        except BaseException:
            response.close()
            raise
        response.release_conn()
        raise_for_status(response.status, response.headers, content)
        return Answer(response.status, content)

    def _opened(self, url: str) -> PoolManager:
        if self._pool is None:
            from urllib3 import PoolManager, ProxyManager, Timeout
            from urllib3.util import make_headers, parse_url

            timeout = Timeout(
                connect=min(CONNECT_SECONDS, self._timeout_seconds), read=self._timeout_seconds
            )
            proxy = _proxy_for(url)
            if proxy is None:
                self._pool = PoolManager(1, timeout=timeout)
            else:
                auth = parse_url(proxy).auth
                self._pool = ProxyManager(
                    proxy,
                    1,
                    proxy_headers=make_headers(proxy_basic_auth=auth) if auth else None,
                    timeout=timeout,
                )
        return self._pool


def _proxy_for(url: str) -> str | None:
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.netloc):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def _without_pool(error: BaseException) -> str:
    """Return what an error says, without the objects that urllib3 puts before it."""
    reason = getattr(error, "reason", None)
    text = str(reason if isinstance(reason, BaseException) else error)
    return f"{type(error).__name__}: {text.rpartition('>: ')[2]}"
