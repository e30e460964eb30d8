"""
Every exception and warning of the package.

AgentSightError
├── InvalidCountError (ValueError)       a token count that cannot be one
├── InvalidScopeError (ValueError)       a scope field that is unknown or malformed
├── InvalidBudgetError (ValueError)      a budget on the server that cannot be one
├── InvalidQueryError (ValueError)       a question that the analytics cannot answer
├── ConfigurationError (ValueError)      a setting that cannot be read
├── UnknownHandlerError (ValueError)     a handler name that nobody registered
├── UnknownModelError (LookupError)      no price, in strict mode
├── UnknownResponseError (TypeError)     a response of no known provider
├── EncodingUnavailableError (LookupError)  an encoding that is not on this machine
├── BudgetExceededError                  a call that a budget does not allow
├── TrackerClosedError (RuntimeError)    a tracker used after close()
├── StorageError (OSError)               the data directory did not take a write
├── UnstorableError (ValueError)         what no store can hold
└── DestinationError                     a delivery that did not succeed
    ├── DestinationUnavailableError      it cannot take it now
    │   └── DestinationUnauthorizedError it does not know our key
    └── DeliveryRefusedError             it will never take it

AgentSightWarning (UserWarning)
├── HandlerSkippedWarning                a framework that is not installed
├── UnpricedModelWarning                 a model without a known price
├── InconsistentUsageWarning             counts that contradict one another
├── EstimatedCountWarning                a count that no tokenizer backs
└── StorageWarning                       records that are held in memory only
"""

from __future__ import annotations

# Not from `typing`, whose import takes longer than the rest of this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal
    from typing import Literal

__all__ = [
    "AgentSightError",
    "AgentSightWarning",
    "BudgetExceededError",
    "ConfigurationError",
    "DeliveryRefusedError",
    "DestinationError",
    "DestinationUnauthorizedError",
    "DestinationUnavailableError",
    "EncodingUnavailableError",
    "EstimatedCountWarning",
    "HandlerSkippedWarning",
    "InconsistentUsageWarning",
    "InvalidBudgetError",
    "InvalidCountError",
    "InvalidQueryError",
    "InvalidScopeError",
    "StorageError",
    "StorageWarning",
    "TrackerClosedError",
    "UnknownHandlerError",
    "UnknownModelError",
    "UnknownResponseError",
    "UnpricedModelWarning",
    "UnstorableError",
]


class AgentSightError(Exception):
    """The root of every error that this package raises."""


class InvalidCountError(AgentSightError, ValueError):
    """A token count is negative, too large or not an integer."""


class InvalidScopeError(AgentSightError, ValueError):
    """A scope field is unknown or has a value that cannot identify anything."""


class InvalidBudgetError(AgentSightError, ValueError):
    """A budget of the server has a field that no budget can have."""


class InvalidQueryError(AgentSightError, ValueError):
    """A question cannot be answered: a cursor of another list, a range that is too long."""


class ConfigurationError(AgentSightError, ValueError):
    """A setting cannot be read; the message names the variable."""


class UnknownHandlerError(ConfigurationError):
    """No installed package registers a handler under this name."""


class UnknownModelError(AgentSightError, LookupError):
    """A model has no known price and the estimator is strict."""


class UnknownResponseError(AgentSightError, TypeError):
    """A response has the shape of no provider that is known."""


class EncodingUnavailableError(AgentSightError, LookupError):
    """A tokenizer's encoding is not on this machine and may not be fetched."""


class BudgetExceededError(AgentSightError):
    """A call was stopped because a budget does not allow it."""

    def __init__(  # noqa: PLR0913  # what stops a call is told in full
        self,
        message: str,
        *,
        scope: str = "global",
        entity_id: str = "*",
        window: str = "call",
        unit: Literal["tokens", "usd"] = "tokens",
        used: int | Decimal = 0,
        held: int | Decimal = 0,
        requested: int | Decimal | None = 0,
        limit: int | Decimal = 0,
        resets_at: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.scope = scope
        """Whose budget it is: global, org, user, agent, feature, session or model."""
        self.entity_id = entity_id
        """Which org, user and so on; `*` for the global budget."""
        self.window = window
        """The period: call, session, hour, day, month, total, or `rolling 72h`."""
        self.unit = unit
        """What is limited; the amounts below are whole tokens or USD."""
        self.used = used
        """What calls that have ended used in this window."""
        self.held = held
        """What calls that still run have reserved in it."""
        self.requested = requested
        """What this call would have reserved; None where its price is not known."""
        self.limit = limit
        self.resets_at = resets_at
        """When the window ends, in UTC; None for one that never does."""


class TrackerClosedError(AgentSightError, RuntimeError):
    """A tracker was used after it was closed."""


class StorageError(AgentSightError, OSError):
    """The data directory did not take a write."""


class UnstorableError(AgentSightError, ValueError):
    """A store cannot hold what is in a cycle, as a number beyond 64 bits."""


class DestinationError(AgentSightError):
    """A destination did not accept a delivery."""


class DestinationUnavailableError(DestinationError):
    """A destination cannot take a delivery now; it is tried again."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        """When the destination asks to be tried again, if it says so."""


class DestinationUnauthorizedError(DestinationUnavailableError):
    """A destination does not accept our key; everything waits until it does."""


class DeliveryRefusedError(DestinationError):
    """A destination refuses a delivery for what is in it, for ever."""


class AgentSightWarning(UserWarning):
    """The root of every warning that this package gives."""


class HandlerSkippedWarning(AgentSightWarning):
    """A handler was asked for whose framework is not installed."""


class UnpricedModelWarning(AgentSightWarning):
    """A call was made with a model that has no known price."""


class InconsistentUsageWarning(AgentSightWarning):
    """A usage contradicts itself, for example more cached than input tokens."""


class EstimatedCountWarning(AgentSightWarning):
    """A count is an estimate because no tokenizer of the model is at hand."""


class StorageWarning(AgentSightWarning):
    """The data directory cannot be written; records are held in memory."""
