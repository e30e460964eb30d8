"""Usage and records: what one or many calls used, and who caused one call."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from operator import index
from typing import Final, Literal

import msgspec
from msgspec.structs import astuple, force_setattr

from .errors import InvalidCountError, InvalidScopeError

__all__ = [
    "COUNTERS",
    "MAX_COUNT",
    "STATED_BY_PROVIDER",
    "USAGE_FIELDS",
    "CallStatus",
    "CostStatus",
    "Operation",
    "Scope",
    "Source",
    "TokenUsage",
    "UnreportedReason",
    "UsageRecord",
    "checked_count",
    "pico_usd",
    "usd",
]

MAX_COUNT: Final = 10**15
"""The largest count of one call; sums of millions of calls still fit 64 bits."""

PICO_PER_USD: Final = 10**12

_INTEGERS: Final = frozenset({int})

Operation = Literal["chat", "completion", "embedding", "other"]
"""What the call did, by the operation names of the OpenTelemetry GenAI conventions."""

CallStatus = Literal["ok", "error", "cancelled", "partial"]
"""How the call ended; `partial` is a stream that broke after it had reported some usage."""

UnreportedReason = Literal[
    "provider_silent",
    "stream_without_usage",
    "error_without_usage",
    "cancelled",
    "run_never_closed",
    "never_retrieved",
]
"""
Why nobody knows what a call used.

- `provider_silent`: the whole answer came and said nothing of its use.
- `stream_without_usage`: the same of a stream that came to its end.
- `error_without_usage`: the call failed after it was sent, and may have been billed.
- `cancelled`: the program left before the use was told.
- `run_never_closed`: the framework never told of the call's end.
- `never_retrieved`: a response made in the background was never asked for.
"""

Source = Literal["provider", "estimated", "manual"]
"""Who says what was used."""

CostStatus = Literal["priced", "derived", "estimated", "unpriced", "inconsistent"]
"""How the cost was found; `unpriced` has no cost at all, which is not a cost of zero."""


STATED_BY_PROVIDER: Final = "stated by the provider"
"""The price key of a cost that the provider itself has stated; it wins over the catalog."""


def usd(pico_usd: int) -> Decimal:
    """Return integer pico-USD as exact USD, without zeros at its end."""
    amount = Decimal(pico_usd).scaleb(-12)
    # `normalize` alone would write 100 as 1E+2.
    return amount.to_integral_value() if pico_usd % PICO_PER_USD == 0 else amount.normalize()


def pico_usd(usd: Decimal) -> int:
    """Return USD as integer pico-USD, rounded half to even."""
    return int(usd.scaleb(12).to_integral_value(ROUND_HALF_EVEN))


def checked_count(name: str, value: object) -> int:
    """
    Return a count as an integer; None counts as 0.

    Raises:
        InvalidCountError: For a bool, a float, a string, a negative or a too large number.
    """
    if value is None:
        return 0
    try:
        if isinstance(value, bool):
            raise TypeError
        count = index(value)  # type: ignore[arg-type]  # index() itself tells what is no integer
    except TypeError:
        raise InvalidCountError(
            f"{name} must be a whole number of tokens or None, not {value!r}"
        ) from None
    if not 0 <= count <= MAX_COUNT:
        raise InvalidCountError(f"{name} must lie between 0 and {MAX_COUNT:,}, not {count!r}")
    return count


class TokenUsage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    Additive integer counters of one or many calls.

    Input and output are inclusive; the other counts are subsets of them, and embeddings
    stand apart. A `total_tokens` that is not given is the sum of input and output.

    Raises:
        InvalidCountError: If a count is negative, too large or no integer.
    """

    input_tokens: int = 0
    """Everything that the model read, cache reads and writes and all modalities included."""
    output_tokens: int = 0
    """Everything that the model produced, reasoning and all modalities included."""
    total_tokens: int = 0
    """What the provider reported as the total, else input + output."""
    embedding_tokens: int = 0
    """Tokens that were embedded; never part of `total_tokens`."""
    cache_read_tokens: int = 0
    """The part of the input that was read from a prompt cache."""
    cache_creation_tokens: int = 0
    """The part of the input that was written to a prompt cache, whatever its lifetime."""
    cache_creation_1h_tokens: int = 0
    """The part of `cache_creation_tokens` that lives for an hour."""
    reasoning_tokens: int = 0
    """The part of the output that was reasoning."""
    audio_input_tokens: int = 0
    """The part of the input that was audio."""
    audio_output_tokens: int = 0
    """The part of the output that was audio."""
    cache_read_audio_tokens: int = 0
    """The part of `audio_input_tokens` that was read from a prompt cache."""
    image_input_tokens: int = 0
    """The part of the input that was images."""
    image_output_tokens: int = 0
    """The part of the output that was images."""
    web_search_requests: int = 0
    """Searches that the provider bills besides the tokens."""

    def __post_init__(self) -> None:
        values = astuple(self)[COUNTERS]
        if not _INTEGERS.issuperset(map(type, values)) or min(values) < 0:
            for name, given in zip(USAGE_FIELDS, values, strict=True):
                force_setattr(self, name, checked_count(name, given))
        if not self.total_tokens and (self.input_tokens or self.output_tokens):
            force_setattr(self, "total_tokens", self.input_tokens + self.output_tokens)

    def __add__(self, other: TokenUsage) -> TokenUsage:
        if not isinstance(other, TokenUsage):
            return NotImplemented
        return TokenUsage(
            **{
                name: a + b
                for name, a, b in zip(
                    USAGE_FIELDS, astuple(self)[COUNTERS], astuple(other)[COUNTERS], strict=True
                )
                if a or b
            }
        )

    def __bool__(self) -> bool:
        return any(astuple(self)[COUNTERS])

    @property
    def prompt_tokens(self) -> int:
        """The input tokens, by their older name."""
        return self.input_tokens

    @property
    def completion_tokens(self) -> int:
        """The output tokens, by their older name."""
        return self.output_tokens

    @property
    def cached_tokens(self) -> int:
        """The input tokens that were read from a prompt cache."""
        return self.cache_read_tokens


USAGE_FIELDS: Final[tuple[str, ...]] = TokenUsage.__struct_fields__
"""The names of the counters, in their order on the wire and in SQL."""

COUNTERS: Final = slice(len(USAGE_FIELDS))
"""Where they stand among the values of a usage: a summary has more fields behind them."""


class Scope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Who caused a call. What is not known is None."""

    conversation_id: str | None = None
    """The conversation whose cycle the call is counted in."""
    session_id: str | None = None
    """The session of a user; the conversation's id when nothing else was said."""
    user_id: str | None = None
    """The user, hashed before it leaves the process when the configuration says so."""
    org_id: str | None = None
    """The organisation, team or tenant."""
    agent: str | None = None
    """The agent within the application."""
    feature: str | None = None
    """The feature of the application."""
    tags: tuple[str, ...] = ()
    """Free labels, sorted and without duplicates."""

    def replace(self, **fields: object) -> Scope:
        """
        Return this scope with other fields; a field given as None keeps its value.

        Raises:
            InvalidScopeError: For a field that no scope has, or a value that names nothing.
        """
        given = {name: _scope_value(name, value) for name, value in fields.items()}
        changes = {name: value for name, value in given.items() if value is not None}
        return msgspec.structs.replace(self, **changes) if changes else self


SCOPE_FIELDS: Final[tuple[str, ...]] = Scope.__struct_fields__
_LONGEST_NAME: Final = 1024


def _scope_value(name: str, value: object) -> object:
    """Return a scope field's value in its canonical form."""
    if name not in SCOPE_FIELDS:
        raise InvalidScopeError(
            f"{name!r} is no scope field; the fields are {', '.join(SCOPE_FIELDS)}"
        )
    if value is None:
        return None
    if name == "tags":
        tags = (value,) if isinstance(value, str) else value
        if not isinstance(tags, Iterable):
            raise InvalidScopeError(f"tags must be a text or several, not {value!r}")
        return tuple(sorted({str(_scope_text("tags", tag)) for tag in tags}))
    return _scope_text(name, value)


def _scope_text(name: str, value: object) -> str:
    text = value if isinstance(value, str) else str(value)
    if not text or len(text) > _LONGEST_NAME:
        raise InvalidScopeError(
            f"{name} must have 1 to {_LONGEST_NAME} characters, not {len(text)}: {text[:40]!r}"
        )
    return text


class UsageRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One call: when, what it used, what it cost and who caused it."""

    id: str
    """The record's time-ordered id; a store takes each id once, for ever."""
    at: datetime
    """When the call ended, aware and in UTC."""
    usage: TokenUsage = TokenUsage()
    scope: Scope = Scope()
    model: str | None = None
    """The model that answered, as the provider names it."""
    provider: str | None = None
    operation: Operation = "chat"
    status: CallStatus = "ok"
    source: Source = "provider"
    unreported_reason: str | None = None
    """
    Why the provider never said what the call used; None when it did.

    An `UnreportedReason`, unless it was recorded by another version.
    """
    cost_pico_usd: int | None = None
    """The cost in 10^-12 USD; None is unknown and is never 0."""
    prompt_cost_pico_usd: int | None = None
    """The part of the cost that the input caused."""
    completion_cost_pico_usd: int | None = None
    """The part of the cost that the output caused."""
    cost_status: CostStatus = "unpriced"
    price_key: str | None = None
    """The row of the catalog that priced the call."""
    price_version: str | None = None
    """The dated version of that row."""
    service_tier: str | None = None
    """The tier that served the call, as the provider names it."""
    region: str | None = None
    """Where the provider says that it served the call, if that bears on the price."""
    duration_seconds: float | None = None
    time_to_first_token_seconds: float | None = None
    tool_name: str | None = None
    """The tool inside which the call was made."""
    handler: str | None = None
    """The handler that captured the call; None for manual tracking."""
    response_id: str | None = None
    """The provider's id of the response."""
    error_type: str | None = None
    """The class of the exception that ended the call; never its message."""

    @property
    def timestamp(self) -> datetime:
        """When the call ended."""
        return self.at

    @property
    def input_tokens(self) -> int:
        """The input tokens, cache included."""
        return self.usage.input_tokens

    @property
    def output_tokens(self) -> int:
        """The output tokens, reasoning included."""
        return self.usage.output_tokens

    @property
    def prompt_tokens(self) -> int:
        """The input tokens, by their older name."""
        return self.usage.input_tokens

    @property
    def completion_tokens(self) -> int:
        """The output tokens, by their older name."""
        return self.usage.output_tokens

    @property
    def total_tokens(self) -> int:
        """The total that the provider reported, else input + output."""
        return self.usage.total_tokens

    @property
    def embedding_tokens(self) -> int:
        """The tokens that were embedded."""
        return self.usage.embedding_tokens

    @property
    def cached_tokens(self) -> int:
        """The input tokens that were read from a prompt cache."""
        return self.usage.cache_read_tokens

    @property
    def conversation_id(self) -> str | None:
        """The conversation whose cycle the call is counted in."""
        return self.scope.conversation_id

    @property
    def cost(self) -> Decimal | None:
        """The cost in USD; None where the call has no price."""
        return None if self.cost_pico_usd is None else usd(self.cost_pico_usd)

    @property
    def is_unreported(self) -> bool:
        """Whether the provider never said what the call used."""
        return self.unreported_reason is not None
