"""What notebooks and data frames get: HTML, pandas and Arrow."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from inline_snapshot import snapshot

from agentsight_tokens import (
    Budget,
    BudgetManager,
    ConversationTracker,
    CostEstimator,
    Cycle,
    TokenUsage,
    UsageRecord,
    UsageSummary,
    UsageTracker,
)
from agentsight_tokens.backend.analytics import UsageReport, trend, usage_by
from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.notebook import LiveUsage
from agentsight_tokens.rows import CALL_FIELDS, USAGE_ROW_FIELDS
from agentsight_tokens.usage_history import UsageHistory
from tests.records import AT, call

HOSTILE = "<script>alert('&')</script>"


class Cells(HTMLParser):
    """The texts of a table, row by row, and every tag that was opened and not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] in {"td", "th"}:
            self.rows[-1][-1] += data


def rows_of(shown: Any) -> list[list[str]]:
    return Cells(shown._repr_html_()).rows


def text_of(shown: Any) -> str:
    return re.sub(r"<[^>]*>", " ", shown._repr_html_())


def report(*records: UsageRecord, by: str = "user") -> UsageReport:
    with SQLiteStore(Path(":memory:")) as store:
        store.ingest(
            [
                Cycle.of([r], key=r.id, conversation_id="c", sealed_by="send", sealed_at=AT)
                for r in records
            ]
        )
        return usage_by(store, by.split(","))


def some_calls() -> list[UsageRecord]:
    scope = call().scope
    return [
        call(1, at=AT, cost_pico_usd=1_500_000_000, model="gpt-4o"),
        call(
            2,
            at=AT + timedelta(days=1),
            scope=msgspec.structs.replace(scope, user_id=HOSTILE, tags=("a", "b")),
            usage=TokenUsage(input_tokens=1_000_000, output_tokens=5, cache_read_tokens=12),
            cost_pico_usd=2_000_000_000_001,
            model="gpt-4o",
            duration_seconds=1.5,
        ),
        call(
            3,
            at=AT + timedelta(days=2),
            usage=TokenUsage(input_tokens=7),
            cost_pico_usd=None,
            model=HOSTILE,
        ),
        call(4, at=AT, usage=TokenUsage(), unreported_reason="stream", model="gpt-4o"),
    ]


def test_a_summary_shows_its_models_and_what_is_missing() -> None:
    """A row for each model, the costliest first, a total, and what the cost does not hold."""
    summary = UsageSummary.of_calls(some_calls())

    assert rows_of(summary) == snapshot(
        [
            ["model", "calls", "input", "cached", "output", "unpriced", "unreported", "cost"],
            ["gpt-4o", "3", "1,000,001", "12", "7", "0", "1", "$2.00"],
            ["<script>alert('&')</script>", "1", "7", "0", "0", "7", "0", "unpriced"],
            ["total", "4", "1,000,008", "12", "7", "7", "1", "$2.00"],
        ]
    )
    assert "unpriced: 7 tokens of 1 call have no known price" in text_of(summary)
    assert "unreported: of 1 call the provider never said" in text_of(summary)


def test_everything_is_escaped_and_nothing_is_loaded() -> None:
    """A name is text, whatever it is, and the markup needs no network and no style of a page."""
    for shown in (
        UsageSummary.of_calls(some_calls()),
        UsageHistory(some_calls()),
        report(*some_calls(), by="user,model"),
        CostEstimator({HOSTILE: 0.5}).estimate(1000, 500, HOSTILE),
        budget_status(),
    ):
        html = shown._repr_html_()
        assert "<script" not in html
        assert "&lt;script&gt;" in html
        assert Cells(html).tags == {"div", "b", "table", "tr", "th", "td"}
        assert "http" not in html


def budget_status() -> Any:
    manager = BudgetManager()
    manager.set_budget(Budget(daily_token_limit=1000, cost_limit_usd=2))
    manager.set_budget(Budget(session_token_limit=100), scope="user", entity_id=HOSTILE)
    manager.settle(manager.reserve(100, Decimal("0.5"), user_id=HOSTILE, session_id="s"), 100)
    return manager.status(user_id=HOSTILE, session_id="s")


def test_a_budget_shows_each_limit() -> None:
    """What is used, held and left, and what has nothing left."""
    status = budget_status()

    assert [row[:6] for row in rows_of(status)] == snapshot(
        [
            ["budget", "window", "used", "held", "limit", "part"],
            ["global", "tokens per day", "100", "0", "1,000", "10%"],
            ["global", "USD per day", "$0.5", "$0", "$2", "25%"],
            ["user <script>alert('&')</script>", "tokens per session", "100", "0", "100", "100%"],
        ]
    )
    assert "nothing is left" in text_of(status)


def test_no_budget_says_so() -> None:
    """An empty status is no empty table."""
    assert "No budget limits this" in text_of(BudgetManager().status(user_id="ana"))


def test_a_cost_shows_its_arithmetic() -> None:
    """The kinds of tokens, their rates and what they cost, to the last digit."""
    cost = CostEstimator().estimate(1000, 500, "gpt-4o-mini", cached_tokens=400)

    assert rows_of(cost) == snapshot(
        [
            ["tokens", "quantity", "USD per million", "USD"],
            ["input", "600", "0.15", "0.00009"],
            ["cache read", "400", "0.075", "0.00003"],
            ["output", "500", "0.6", "0.0003"],
        ]
    )
    assert "gpt-4o-mini: $0.00042" in text_of(cost)


def test_the_cost_of_many_calls_shows_its_parts(tracker: ConversationTracker) -> None:
    """Prompts and completions, and that a price is missing."""
    tracker.track_token_usage(1000, 500, model="gpt-4o-mini")
    tracker.track_token_usage(1000, 500, model="nobody-knows-it")

    assert rows_of(tracker.get_cost_breakdown()) == snapshot(
        [["part", "USD"], ["prompt", "0.00015"], ["completion", "0.0003"]]
    )
    assert "calls without a price are not in this cost" in text_of(tracker.get_cost_breakdown())


def test_a_cost_that_nobody_knows() -> None:
    """It is unpriced, not nothing."""
    assert "unpriced" in text_of(CostEstimator().estimate(10, 5, "nobody-knows-it"))


def test_a_report_shows_its_groups() -> None:
    """The same figures as the command line's, one row for a single group."""
    assert rows_of(report(*some_calls())) == snapshot(
        [
            ["user", "calls", "input", "cached", "output", "unpriced", "unreported", "cost"],
            ["<script>alert('&')</script>", "1", "1,000,000", "12", "5", "0", "0", "$2.0000"],
            ["-", "3", "8", "0", "2", "7", "1", "$0.0015"],
            ["total", "4", "1,000,008", "12", "7", "7", "1", "$2.0015"],
        ]
    )
    assert len(rows_of(report(call(1)))) == 2


def test_of_many_groups_the_first_are_shown() -> None:
    """The total is of all, and the rest is counted."""
    many = report(*[call(n, model=f"m{n}") for n in range(1, 51)], by="model")

    assert len(rows_of(many)) == 32
    assert "20 more rows are in the total" in text_of(many)


def test_a_history_is_a_list_and_shows_its_newest_calls(tracker: ConversationTracker) -> None:
    """It compares with lists as before."""
    for number in range(1, 33):
        tracker.track_token_usage(number, model="gpt-4o-mini")
    history = tracker.get_usage_history()

    assert history == list(history)
    assert len(rows_of(history)) == 32
    assert "The newest 30 of 32 calls" in text_of(history)
    assert "Calls: 1" in text_of(UsageHistory(history[:1]))


def test_a_frame_of_a_history_has_a_type_for_each_column() -> None:
    """Whether there are rows or not; costs stay exact, a missing price stays missing."""
    pandas = pytest.importorskip("pandas")
    frame = UsageHistory(some_calls()).to_pandas()

    assert tuple(frame.columns) == CALL_FIELDS
    assert list(frame["cost_usd"])[1] == Decimal("2.000000000001")
    assert list(frame["cost_usd"])[2] is None
    assert frame["input_tokens"].sum() == sum(c.input_tokens for c in some_calls())
    assert frame["at"].iloc[0] == pandas.Timestamp(AT)
    assert frame["tags"].iloc[1] == ("a", "b")
    for name, kind in UsageHistory().to_pandas().dtypes.items():
        assert frame[name].dtype == kind, name


def test_an_arrow_table_has_the_same_schema_whatever_its_rows() -> None:
    """Costs are decimals, times are in UTC, what is not known is null."""
    pytest.importorskip("pyarrow")
    table = UsageHistory(some_calls()).to_arrow()

    assert table.schema == UsageHistory().to_arrow().schema
    assert str(table.schema.field("cost_usd").type) == "decimal128(38, 12)"
    assert table["at"].to_pylist() == [c.at for c in some_calls()]
    assert table["cost_usd"].to_pylist()[1:3] == [Decimal("2.000000000001"), None]
    assert table["tags"].to_pylist()[1] == ["a", "b"]


def test_a_report_becomes_a_frame() -> None:
    """With its keys before its counters."""
    pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    found = report(*some_calls(), by="day,user")

    assert list(found.to_pandas().columns) == ["day", "user_id", *USAGE_ROW_FIELDS]
    assert found.to_arrow().to_pylist() == found.rows()
    assert found.to_pandas()["cost_usd"].sum() == found.total.cost


def test_a_trend_becomes_a_frame(tmp_path: Path) -> None:
    """A row a period, empty ones too, in the order of time."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    with SQLiteStore(tmp_path / "store.db") as store:
        found = trend(store, where={"until": AT + timedelta(days=2)}, period="day")

    frame = found.to_pandas()

    assert list(frame.columns) == ["period", "begins_at", "ends_at", *USAGE_ROW_FIELDS]
    assert list(frame["period"]) == [point.name for point in found.points]
    assert frame["begins_at"].iloc[0] == pandas.Timestamp(found.points[0].begins_at)
    assert found.to_arrow().to_pylist() == found.rows()


def test_a_history_of_the_older_tracker_is_one_too() -> None:
    """`UsageTracker.get_history` can be shown and held as well."""
    tracker = UsageTracker()
    tracker.record_usage(10, 5, model="gpt-4o")

    assert tracker.get_history().rows()[0]["cost_usd"] == Decimal("0.000075")


@pytest.mark.parametrize(("method", "extra"), [("to_pandas", "pandas"), ("to_arrow", "arrow")])
def test_a_missing_library_is_named_with_what_installs_it(method: str, extra: str) -> None:
    """Without the extra everything else works."""
    code = (
        "import sys\n"
        "sys.modules['pandas'] = sys.modules['pyarrow'] = None\n"
        "from agentsight_tokens import UsageTracker\n"
        "tracker = UsageTracker()\n"
        "tracker.record_usage(10, 5, 'gpt-4o')\n"
        "tracker.get_history()._repr_html_()\n"
        f"tracker.get_history().{method}()\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert f"ImportError: {method}() needs" in done.stderr
    assert f"pip install 'agentsight-tokens[{extra}]'" in done.stderr


def test_a_live_display_follows_the_calls(tracker: ConversationTracker) -> None:
    """It is written anew with each call, and holds what was counted since it was shown."""
    written: list[str] = []

    class Handle:
        def update(self, shown: LiveUsage) -> None:
            written.append(shown._repr_html_())

    live = LiveUsage()
    live.show(lambda shown, display_id: Handle())
    tracker.track_token_usage(1, model="gpt-4o")
    tracker.on_step_complete(live.add)
    tracker.track_token_usage(10, 5, model="gpt-4o")
    tracker.track_token_usage(20, 5, model="gpt-4o-mini")

    assert ["1 call, 15 tokens" in each for each in written] == [True, False]
    assert live.usage == tracker.get_usage(since=tracker.get_usage_history()[1].at)


def test_a_live_display_names_what_it_needs(tracker: ConversationTracker) -> None:
    """Outside of Jupyter it says what to install."""
    code = (
        "import sys\n"
        "sys.modules['IPython'] = sys.modules['IPython.display'] = None\n"
        "from agentsight_tokens import ConversationTracker\n"
        "from agentsight_tokens.notebook import live_usage\n"
        "live_usage(ConversationTracker())\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "ImportError: live_usage() needs IPython: pip install jupyterlab" in done.stderr
