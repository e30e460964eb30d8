"""OTLP over HTTP: each call as a span, and what was used as metrics, by opentelemetry-sdk."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from agentsight_tokens.cycle import Cycle
from agentsight_tokens.errors import (
    DeliveryRefusedError,
    DestinationError,
    DestinationUnavailableError,
)
from agentsight_tokens.pricing import CostEstimator

from .base import Outcome
from .responses import raise_for_status

if TYPE_CHECKING:
    from requests import Response

    from .otlp_session import NotingSession
    from .otlp_spans import Dialect

__all__ = ["OTLPMetricsDestination", "OTLPSpansDestination", "Vendor"]

SPANS_PATH: Final = "/v1/traces"
METRICS_PATH: Final = "/v1/metrics"

_logger: Final = logging.getLogger("agentsight_tokens")


class _Partial(msgspec.Struct, rename="camel"):
    """What a collector says in JSON that it did not take; a number may come as a string."""

    rejected_spans: int = 0
    rejected_data_points: int = 0
    error_message: str = ""


class _Answer(msgspec.Struct, rename="camel"):
    partial_success: _Partial | None = None


class _OTLPDestination:
    """
    Exports through an exporter of opentelemetry-sdk.

    Args:
        kind: What goes before the digest in the identity.
        url: Where the exporter posts; when None, as `OTEL_EXPORTER_OTLP_*` say.
        headers: Sent with every request.
        is_vendor: Whether the collector must not see the headers of the environment.
        timeout_seconds: How long a delivery may take, the exporter's own retries included.
    """

    def __init__(
        self,
        kind: str,
        url: str | None,
        headers: Mapping[str, str] | None,
        *,
        is_vendor: bool = False,
        timeout_seconds: float,
    ) -> None:
        self._url = url
        self._headers = dict(headers or {})
        self._is_vendor = is_vendor
        self._timeout_seconds = timeout_seconds
        secret = repr((url, sorted(self._headers.items())))
        self.identity = f"{kind}:{sha256(secret.encode()).hexdigest()[:12]}"
        self._exporter: Any = None
        self._session: NotingSession

    def deliver(self, cycles: Sequence[Cycle]) -> Sequence[Outcome]:
        """Export the cycles; see `Destination.deliver`."""
        # Imported with the first delivery, in the sender's thread.
        from requests import RequestException

        from .otlp_session import NotingSession, unnoticed

        if self._exporter is None:
            self._session = NotingSession(self._headers if self._is_vendor else None)
            self._exporter = self._made(self._session)
        self._session.forget()
        # Some versions of the exporter raise why there was no answer; the session has noted it.
        with unnoticed(), contextlib.suppress(RequestException):
            self._export(cycles)
        answer = self._session.answer
        if answer is None:
            raise DestinationUnavailableError(f"no answer: {self._session.error}")
        raise_for_status(answer.status_code, answer.headers, answer.content)
        rejected, reason = self._rejected(answer)
        if rejected:
            self._refuse(cycles, rejected, f"{rejected} rejected: {reason}")
        return [Outcome(is_accepted=True)] * len(cycles)

    def check(self) -> None:
        """Export nothing; see `Destination.check`."""
        try:
            self.deliver(())
        except DeliveryRefusedError as error:
            raise DestinationError(str(error)) from error

    def close(self) -> None:
        """Close the connection."""
        if self._exporter is not None:
            self._exporter.shutdown()
            self._exporter = None

    def forget_after_fork(self) -> None:
        """Leave the parent's connection to the parent."""
        self._exporter = None

    def _rejected(self, answer: Response) -> tuple[int, str]:
        """Return how much a collector that says 2xx did not take after all, and why."""
        kind = answer.headers.get("Content-Type", "")
        if "html" in kind:
            raise DestinationUnavailableError(
                f"{answer.status_code}, but with a page for people: is it a collector?"
            )
        if "json" in kind:
            try:
                partial = msgspec.json.decode(answer.content, type=_Answer, strict=False)
            except msgspec.DecodeError:
                return 0, ""  # whatever it says, the status says that it was taken
            return self._rejected_in_json(partial.partial_success or _Partial())
        return self._rejected_in_protobuf(answer.content)

    def _made(self, session: NotingSession) -> Any:
        raise NotImplementedError

    def _export(self, cycles: Sequence[Cycle]) -> None:
        raise NotImplementedError

    def _rejected_in_json(self, partial: _Partial) -> tuple[int, str]:
        raise NotImplementedError

    def _rejected_in_protobuf(self, content: bytes) -> tuple[int, str]:
        raise NotImplementedError

    def _refuse(self, cycles: Sequence[Cycle], rejected: int, reason: str) -> None:
        raise NotImplementedError


class Vendor(NamedTuple):
    """What sets a vendor's collector apart; it is not shown the environment's headers."""

    kind: str
    """What goes before the digest in the identity."""
    path: str
    """Where it takes spans."""
    dialect: Dialect


class OTLPSpansDestination(_OTLPDestination):
    """
    A span for each call, by the GenAI conventions.

    Its ids follow from the record's id, so that a span that comes twice is the same span.

    Args:
        endpoint: The collector's address; as the environment says when None.
        headers: Sent with every request.
        vendor: Whose the collector is, if it is no plain one.
        estimator: Prices what a cache saved.
        timeout_seconds: How long a delivery may take.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        vendor: Vendor | None = None,
        estimator: CostEstimator | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        path = vendor.path if vendor else SPANS_PATH
        super().__init__(
            vendor.kind if vendor else "otlp",
            None if endpoint is None else endpoint.rstrip("/") + path,
            headers,
            is_vendor=vendor is not None,
            timeout_seconds=timeout_seconds,
        )
        self._dialect = vendor.dialect if vendor else None
        self._estimator = estimator

    def _made(self, session: NotingSession) -> Any:
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(
            endpoint=self._url,
            headers=self._headers or None,
            timeout=self._timeout_seconds,  # type: ignore[arg-type,unused-ignore]  # int before 1.34
            compression=Compression.Gzip,
            session=session,
        )

    def _export(self, cycles: Sequence[Cycle]) -> None:
        from .otlp_spans import spans_of

        self._exporter.export(spans_of(cycles, self._dialect, self._estimator))

    def _rejected_in_json(self, partial: _Partial) -> tuple[int, str]:
        return partial.rejected_spans, partial.error_message

    def _rejected_in_protobuf(self, content: bytes) -> tuple[int, str]:
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceResponse,
        )

        try:
            partial = ExportTraceServiceResponse.FromString(content).partial_success
        except DecodeError:
            return 0, ""
        return partial.rejected_spans, partial.error_message

    def _refuse(self, cycles: Sequence[Cycle], rejected: int, reason: str) -> None:
        # Which ones it does not say. The others may come again, they have their ids.
        raise DeliveryRefusedError(reason)


class OTLPMetricsDestination(_OTLPDestination):
    """
    `gen_ai.client.token.usage` and `gen_ai.client.operation.duration`, as deltas.

    A metric has no id by which it could be known again: where an acknowledgement is lost, what
    it stood for is counted twice. Take the spans where counts must be exact.

    Args:
        endpoint: The collector's address; as the environment says when None.
        headers: Sent with every request.
        timeout_seconds: How long a delivery may take.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_seconds: float = 10.0,
    ) -> None:
        url = None if endpoint is None else endpoint.rstrip("/") + METRICS_PATH
        super().__init__("otlp-metrics", url, headers, timeout_seconds=timeout_seconds)

    def _made(self, session: NotingSession) -> Any:
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        return OTLPMetricExporter(
            endpoint=self._url,
            headers=self._headers or None,
            timeout=self._timeout_seconds,  # type: ignore[arg-type,unused-ignore]  # int before 1.34
            compression=Compression.Gzip,
            session=session,
        )

    def _export(self, cycles: Sequence[Cycle]) -> None:
        from .otlp_metrics import metrics_of

        self._exporter.export(metrics_of(cycles))

    def _rejected_in_json(self, partial: _Partial) -> tuple[int, str]:
        return partial.rejected_data_points, partial.error_message

    def _rejected_in_protobuf(self, content: bytes) -> tuple[int, str]:
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
            ExportMetricsServiceResponse,
        )

        try:
            partial = ExportMetricsServiceResponse.FromString(content).partial_success
        except DecodeError:
            return 0, ""
        return partial.rejected_data_points, partial.error_message

    def _refuse(self, cycles: Sequence[Cycle], rejected: int, reason: str) -> None:
        from .otlp_metrics import metrics_of, points_in

        if rejected >= points_in(metrics_of(cycles)):
            raise DeliveryRefusedError(reason)
        # To send the others again would count them twice.
        _logger.error("%s: %s data points, the others were taken", self.identity, reason)
