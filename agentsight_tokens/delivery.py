"""One delivery: a batch on its way to a destination, in this thread or beside it."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Thread

from .destinations import Destination, Outcome
from .ledger import Ledger, Parcel

__all__ = ["Delivery"]


class Delivery:
    """
    A batch of parcels of one ledger.

    Args:
        destination: Where it goes.
        ledger: Where the parcels are from.
        parcels: The batch.
    """

    def __init__(self, destination: Destination, ledger: Ledger, parcels: Sequence[Parcel]) -> None:
        self.ledger = ledger
        self.parcels = parcels
        self._destination = destination
        self._thread: Thread | None = None
        self._outcomes: Sequence[Outcome] = ()
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Deliver in a thread of its own, which a program that ends does not wait for."""
        self._thread = Thread(target=self._run, name="agentsight-delivery", daemon=True)
        self._thread.start()

    def outcomes(self) -> Sequence[Outcome]:
        """
        Return what has become of each parcel, once it is known.

        Raises:
            DestinationError: What the destination raised.
        """
        if self._thread is None:
            self._run()
        else:
            self._thread.join()
        if self._error is not None:
            raise self._error
        return self._outcomes

    def _run(self) -> None:
        try:
            self._outcomes = self._destination.deliver([each.cycle for each in self.parcels])
        except BaseException as error:  # noqa: BLE001  # raised where the outcome is asked for
            self._error = error
