"""What opentelemetry-sdk's exporters post through: it notes what was answered."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry import context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
from requests import PreparedRequest, RequestException, Response, Session

from agentsight_tokens.config import environment_variables

__all__ = ["NotingSession", "unnoticed"]

_LOGGERS: Final = (
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
)
_OF_THE_REQUEST: Final = frozenset(
    {
        *("accept", "accept-encoding", "connection", "content-encoding", "content-length"),
        *("content-type", "user-agent"),
    }
)
_exporting: Final = ContextVar("agentsight_tokens_exporting", default=False)


class NotingSession(Session):
    """
    Remembers the last answer, which the exporter reduces to success or failure.

    Args:
        only_headers: Those of a vendor, sent beside what every request has. What
            `OTEL_EXPORTER_OTLP_*` say of another collector, its key and its certificates, is
            not the vendor's. None if the collector is the one that they speak of.
    """

    def __init__(self, only_headers: Collection[str] | None = None) -> None:
        super().__init__()
        self.answer: Response | None = None
        self.error: RequestException | None = None
        """Why there was no answer."""
        self._allowed = (
            None
            if only_headers is None
            else _OF_THE_REQUEST.union(name.lower() for name in only_headers)
        )
        # Without it a .netrc would replace the header that says who we are.
        self.auth = _unchanged

    def forget(self) -> None:
        """Forget the last answer."""
        self.answer = self.error = None

    def send(self, request: PreparedRequest, **kwargs: Any) -> Response:
        """Send a request, but to nobody whom the collector points to."""
        if self._allowed is not None:
            kwargs["cert"] = None
            kwargs["verify"] = environment_variables().get("REQUESTS_CA_BUNDLE", True)
            for name in [name for name in request.headers if name.lower() not in self._allowed]:
                del request.headers[name]
        kwargs["allow_redirects"] = False
        try:
            self.answer = super().send(request, **kwargs)
        except RequestException as error:
            self.error = error
            raise
        return self.answer


@contextlib.contextmanager
def unnoticed() -> Iterator[None]:
    """Export without being traced by the host's instrumentation, and without the SDK's log."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_the_hosts)
    mark = _exporting.set(True)
    token = context.attach(context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, value=True))
    try:
        yield
    finally:
        context.detach(token)
        _exporting.reset(mark)


def _is_the_hosts(_: logging.LogRecord) -> bool:
    # The sender says once that a destination is away, the exporter would at each attempt.
    return not _exporting.get()


def _unchanged(request: PreparedRequest) -> PreparedRequest:
    return request
