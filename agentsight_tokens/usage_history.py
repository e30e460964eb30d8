"""The history: a list of calls that notebooks can show and data frames can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .frames import arrow_table, pandas_frame
from .markup import usage_table
from .rows import CALL_FIELDS, call_row
from .summary import UsageSummary
from .usage import UsageRecord

if TYPE_CHECKING:
    import pandas
    import pyarrow

__all__ = ["UsageHistory"]

_MOST_CALLS: Final = 30


class UsageHistory(list[UsageRecord]):
    """Calls, oldest first."""

    def rows(self) -> list[dict[str, Any]]:
        """Return each call as one flat row; `cost_usd` is None where a call has no price."""
        return [call_row(record) for record in self]

    def to_pandas(self) -> pandas.DataFrame:
        """
        Return the rows as a DataFrame; costs are `Decimal`.

        Raises:
            ImportError: Without pandas, `pip install 'agentsight-tokens[pandas]'`.
        """
        return pandas_frame(CALL_FIELDS, self.rows())

    def to_arrow(self) -> pyarrow.Table:
        """
        Return the rows as an Arrow table; costs are decimals of 12 places.

        Raises:
            ImportError: Without pyarrow, `pip install 'agentsight-tokens[arrow]'`.
        """
        return arrow_table(CALL_FIELDS, self.rows())

    def _repr_html_(self) -> str:
        total = UsageSummary.of_calls(self)
        newest = self[-_MOST_CALLS:]
        groups = [
            (
                (f"{call.at:%Y-%m-%d %H:%M:%S}", call.conversation_id, call.model, call.status),
                UsageSummary.of_calls([call]),
            )
            for call in newest
        ]
        title = f"The newest {len(newest)} of {len(self):,} calls"
        if len(newest) == len(self):
            title = f"Calls: {len(self):,}"
        return usage_table(title, ("at", "conversation", "model", "status"), groups, total)
