"""The HTTP backend: `POST /v1/cycles`."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec

from agentsight_tokens.cycle import Cycle, encode_cycles
from agentsight_tokens.errors import (
    DeliveryRefusedError,
    DestinationError,
    DestinationUnavailableError,
)
from agentsight_tokens.receipt import CycleReceipt, decode_receipt

from .base import Outcome
from .connection import Answer, HTTPConnection, checked_endpoint

__all__ = ["CYCLES_PATH", "HTTPDestination"]

CYCLES_PATH: Final = "/v1/cycles"
_ALREADY_THERE: Final = 409
_ACCEPTED: Final = Outcome(is_accepted=True)


class HTTPDestination:
    """
    Delivers to a backend.

    Args:
        endpoint: The backend's address.
        api_key: The key that it asks for.
        timeout_seconds: How long a delivery may take.

    Raises:
        ConfigurationError: If the endpoint is no address.
    """

    def __init__(
        self, endpoint: str, api_key: str | None = None, *, timeout_seconds: float = 10.0
    ) -> None:
        endpoint = checked_endpoint(endpoint, "AGENTSIGHT_API_ENDPOINT")
        digest = sha256(f"{endpoint}\n{api_key or ''}".encode()).hexdigest()[:12]
        self.identity = f"http:{digest}"
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._connection = HTTPConnection(endpoint, headers, timeout_seconds=timeout_seconds)

    def deliver(self, cycles: Sequence[Cycle]) -> Sequence[Outcome]:
        """Post the cycles; see `Destination.deliver`."""
        answer = self._connection.post(CYCLES_PATH, encode_cycles(cycles), {})
        results = _results(answer)
        if results is None:
            return [_ACCEPTED] * len(cycles)
        missing = [cycle.key for cycle in cycles if cycle.key not in results]
        if missing:
            raise DestinationUnavailableError(
                f"the answer says nothing of {len(missing)} cycles, as of {missing[0]!r}"
            )
        return [_outcome(results[cycle.key]) for cycle in cycles]

    def check(self) -> None:
        """Post no cycles; see `Destination.check`."""
        try:
            _results(self._connection.post(CYCLES_PATH, encode_cycles(()), {}))
        except DeliveryRefusedError as error:
            raise DestinationError(str(error)) from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def forget_after_fork(self) -> None:
        """Leave the parent's connection to the parent."""
        self._connection.forget_after_fork()


def _results(answer: Answer) -> dict[str, CycleReceipt] | None:
    if answer.status == _ALREADY_THERE:
        return None
    try:
        results = decode_receipt(answer.body).results
    except msgspec.DecodeError as error:
        raise DestinationUnavailableError(
            f"{answer.status}, but the answer cannot be read ({error}): is it the backend?"
        ) from error
    return None if results is None else {result.key: result for result in results}


def _outcome(result: CycleReceipt) -> Outcome:
    if result.status == "accepted" and not result.refused:
        return _ACCEPTED
    return Outcome(
        is_accepted=result.status == "accepted",
        reason=result.reason,
        refused={record.id: record.reason for record in result.refused} or None,
    )
