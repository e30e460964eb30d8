"""Rows as data frames: pandas and Arrow, exact and with the same types whatever the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    import pandas
    import pyarrow

__all__ = ["arrow_table", "pandas_frame"]

_Kind = Literal["count", "money", "time", "seconds", "texts", "text"]

_ENDINGS: Final[Mapping[str, _Kind]] = {
    "tokens": "count",
    "calls": "count",
    "requests": "count",
    "_usd": "money",
    "_seconds": "seconds",
    "at": "time",
    "tags": "texts",
}
"""The unit of a column is in its name."""
_PANDAS_TYPES: Final[Mapping[_Kind, str]] = {
    "count": "int64",
    "time": "datetime64[us, UTC]",
    "seconds": "float64",
}
_PICO_DIGITS: Final = 12
_MOST_DIGITS: Final = 38


def pandas_frame(fields: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """
    Return rows as a DataFrame; costs are `Decimal`, and None where there is no price.

    Raises:
        ImportError: Without pandas.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "to_pandas() needs pandas: pip install 'agentsight-tokens[pandas]'"
        ) from error
    columns = {
        name: pandas.Series(
            [row[name] for row in rows], dtype=_PANDAS_TYPES.get(_kind(name), "object")
        )
        for name in fields
    }
    return pandas.DataFrame(columns)


def arrow_table(fields: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> pyarrow.Table:
    """
    Return rows as an Arrow table; costs are decimals of 12 places, null without a price.

    Raises:
        ImportError: Without pyarrow.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            "to_arrow() needs pyarrow: pip install 'agentsight-tokens[arrow]'"
        ) from error
    types = {
        "count": pyarrow.int64(),
        "money": pyarrow.decimal128(_MOST_DIGITS, _PICO_DIGITS),
        "time": pyarrow.timestamp("us", "UTC"),
        "seconds": pyarrow.float64(),
        "texts": pyarrow.list_(pyarrow.string()),
        "text": pyarrow.string(),
    }
    arrays = [pyarrow.array([row[name] for row in rows], types[_kind(name)]) for name in fields]
    return pyarrow.table(dict(zip(fields, arrays, strict=True)))


def _kind(name: str) -> _Kind:
    return next((kind for ending, kind in _ENDINGS.items() if name.endswith(ending)), "text")
