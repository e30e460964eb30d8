"""The catalog: what lies in the package, what comes before it, and what a row remembers."""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import date, datetime, timezone
from decimal import Decimal
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from agentsight_tokens.errors import ConfigurationError
from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.pricing.catalog import Catalog, bundled_table
from agentsight_tokens.pricing.installed_map import MAP_FILE, installed_map, installed_map_file
from agentsight_tokens.pricing.line_table import LineTable, encoded_lines
from agentsight_tokens.pricing.litellm_map import entry_of_litellm
from agentsight_tokens.pricing.price_file import latest_update, read_price_file
from agentsight_tokens.pricing.rows import Entry, Header, Row, Source


def row(price: str, first: int = 0, last: int = 0, since: str | None = None) -> Row:
    rate = Decimal(price)
    return Row(first=first, last=last, usd={"input": rate, "output": rate}, since=since)


def table(*entries: Entry) -> LineTable:
    sources = (Source("litellm-1.0.0", "2025-01-01"), Source("litellm-1.1.0", "2025-02-01"))
    return LineTable(encoded_lines(Header("2025-02-01", sources), entries))


# -- the snapshot ------------------------------------------------------------------------------


def test_the_snapshot_is_dated_and_large() -> None:
    """It knows thousands of models, the day of its newest source, and where each row is from."""
    catalog = Catalog(bundled_table())

    assert len(catalog) > 5_000
    assert catalog.version == "2026-11-12"
    assert catalog.age_days(date(2027, 1, 12)) == 61
    assert catalog.age_days(date(2026, 1, 1)) == 0
    assert {source.name for source in catalog.sources} >= {"litellm-1.60.0", "litellm-1.109.1"}


def test_every_line_of_the_snapshot_can_be_read_and_found() -> None:
    """Every entry decodes, is found by its name and by no other, and every alias has an end."""
    catalog = Catalog(bundled_table())

    for name in catalog:
        entry = catalog.decoded(name)
        found = catalog.find(name.upper())
        assert found is not None
        while entry.alias is not None:
            entry = catalog.decoded(entry.alias.lower())
        assert found == entry
        assert entry.rows


def test_rows_follow_one_another_in_time() -> None:
    """The rows of a model begin one after the other, and no rate is negative."""
    catalog = Catalog(bundled_table())

    for name in catalog:
        rows = catalog.decoded(name).rows
        starts = [catalog.start(row) for row in rows[1:]]
        assert starts == sorted(set(starts)), name
        assert all(rate >= 0 for row in rows for rate in row.usd.values()), name


def test_what_litellm_dropped_is_still_there() -> None:
    """Models that no newest map lists keep their last price."""
    estimator = CostEstimator()

    for model in ("claude-3-opus-20240229", "command-r-plus", "gemini-1.5-pro", "o1-mini"):
        assert estimator.estimate(1, 1, model).status == "priced"


def test_a_table_finds_names_whatever_their_case() -> None:
    """Lookups go by lower case; the entry remembers how its source writes the name."""
    lines = table(
        Entry(key="GLM-4.5", rows=(row("1"),)),
        Entry(key="a", rows=(row("2"),)),
        Entry(key="glm-4.5-air", rows=(row("3"),)),
        Entry(key="zz", rows=(row("4"),)),
    )

    found = {name: lines.find(name) for name in ("glm-4.5", "GLM-4.5", "A", "glm", "zzz", "", "0")}

    keys = {name: entry and entry.key for name, entry in found.items()}
    assert keys == {
        "glm-4.5": "GLM-4.5", "GLM-4.5": "GLM-4.5", "A": "a", "glm": None, "zzz": None, "": None, "0": None,
    }  # fmt: skip
    assert lines.starting_with("GLM") == ["glm-4.5", "glm-4.5-air"]
    assert list(lines) == ["a", "glm-4.5", "glm-4.5-air", "zz"]
    assert len(lines) == 4


def test_an_alias_is_followed() -> None:
    """An alias leads to the entry that it stands for."""
    catalog = Catalog(table(Entry(key="a", rows=(row("1"),)), Entry(key="b", alias="a")))

    found = catalog.find("b")

    assert found is not None
    assert found.key == "a"


def test_a_name_that_is_not_there_cannot_be_decoded() -> None:
    """Decoding asks for a name of the catalog."""
    with pytest.raises(KeyError):
        Catalog(table()).decoded("nothing")


# -- overlays ----------------------------------------------------------------------------------


def cost_map(**models: float) -> bytes:
    return json.dumps(
        {
            "sample_spec": {"input_cost_per_token": "words"},
            **{
                name: {
                    "litellm_provider": "openai",
                    "mode": "chat",
                    "input_cost_per_token": price / 1e6,
                    "output_cost_per_token": price / 1e6,
                }
                for name, price in models.items()
            },
        }
    ).encode()


def test_a_newer_map_follows_the_history(tmp_path: Path) -> None:
    """Prices of a newer map hold from its day on; what was before stays."""
    file = tmp_path / "prices-2026-11-20.json"
    file.write_bytes(cost_map(**{"o3": 7.0, "new-model": 3.0, "gpt-4.1": 2.0}))
    estimator = CostEstimator(prices_file=file)

    def price(day: str) -> object:
        moment = datetime.fromisoformat(day).replace(tzinfo=timezone.utc)
        return estimator.estimate(1_000_000, 0, "o3", at=moment).total_cost

    assert [price(day) for day in ("2025-06-01", "2025-07-01", "2026-11-19", "2026-11-20")] == [
        10,
        2,
        2,
        7,
    ]
    new = estimator.estimate(1_000_000, 0, "new-model")
    assert (new.total_cost, new.price_version) == (3, "2026-11-20 prices-2026-11-20.json")
    assert estimator.catalog.version == "2026-11-20"
    assert "new-model" in set(estimator.catalog)
    assert len(estimator.catalog) == len(CostEstimator().catalog) + 1
    assert "new-model" in estimator.catalog.starting_with("new-")


def test_a_newer_map_that_says_the_same_changes_no_version(tmp_path: Path) -> None:
    """A row that a newer map confirms keeps its version; only its day of checking moves."""
    file = tmp_path / "prices-2026-11-20.json"
    file.write_bytes(cost_map(**{"gpt-4-turbo": 10.0}))
    data = json.loads(file.read_bytes())
    data["gpt-4-turbo"]["output_cost_per_token"] = 3e-05
    file.write_text(json.dumps(data))

    newer, bundled = CostEstimator(prices_file=file), CostEstimator()

    version = bundled.estimate(1, 1, "gpt-4-turbo").price_version
    assert newer.estimate(1, 1, "gpt-4-turbo").price_version == version
    rate = newer.get_rate("gpt-4-turbo")
    assert rate is not None
    assert (rate.source, rate.as_of) == ("prices-2026-11-20.json", "2026-11-20")


def test_a_directory_stands_for_its_newest_update(tmp_path: Path) -> None:
    """The file with the latest day is read; other files there are not."""
    for day, price in (("2026-11-20", 1.0), ("2026-12-01", 2.0)):
        (tmp_path / f"prices-{day}.json").write_bytes(cost_map(mine=price))
    (tmp_path / "prices-of-mine.json").write_text("{}")

    estimator = CostEstimator(prices_file=tmp_path)

    assert latest_update(tmp_path) == tmp_path / "prices-2026-12-01.json"
    assert estimator.estimate(1_000_000, 0, "mine").total_cost == 2


def test_the_environment_names_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """AGENTSIGHT_PRICES_FILE is read when no argument is given."""
    file = tmp_path / "mine.json"
    file.write_text('{"prices": {"Mine": {"input": 1.1, "output": 2}}}')
    monkeypatch.setenv("AGENTSIGHT_PRICES_FILE", str(file))

    cost = CostEstimator().estimate(1_000_000, 1_000_000, "mine")

    assert (cost.total_cost, cost.matched_key) == (Decimal("3.1"), "Mine")
    assert cost.price_version == "mine.json"
    assert CostEstimator().catalog.version == "2026-11-12"


def test_a_file_of_ones_own_has_dates_and_deployments(tmp_path: Path) -> None:
    """Own prices override the catalog for all time, or from their days on."""
    file = tmp_path / "mine.json"
    own = {
        "prices": {
            "gpt-4o": 0.001,
            "dated": [
                {"input": 1, "output": 1},
                {"input": 2, "output": 2, "since": "2026-03-01"},
            ],
        },
        "deployments": {"my-deployment": "gpt-4o"},
    }
    file.write_text(json.dumps(own))
    estimator = CostEstimator(prices_file=str(file))
    old = datetime(2025, 1, 1, tzinfo=timezone.utc)

    assert estimator.estimate(1000, 0, "gpt-4o", at=old).total_cost == Decimal("0.001")
    assert estimator.estimate(1_000_000, 0, "dated", at=old).total_cost == 1
    assert estimator.estimate(1_000_000, 0, "dated").total_cost == 2
    assert estimator.estimate(1_000_000, 0, "my-deployment", provider="azure").matched_key == (
        "azure/gpt-4o"
    )
    assert list(read_price_file(file)) == ["gpt-4o", "dated"]


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[1]",
        "{}",
        '{"a": 1}',
        '{"prices": {"a": "cheap"}}',
        '{"prices": {"a": 1}, "x": 1}',
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: str) -> None:
    """A broken prices file raises when prices are first needed, with its path."""
    file = tmp_path / "mine.json"
    file.write_text(content)

    with pytest.raises(ConfigurationError, match=r"mine\.json"):
        CostEstimator(prices_file=file).estimate(1, 1, "gpt-4o")


def test_a_missing_file_or_empty_directory_is_named(tmp_path: Path) -> None:
    """A path that leads nowhere raises too."""
    with pytest.raises(ConfigurationError, match=r"gone\.json"):
        read_price_file(tmp_path / "gone.json")
    with pytest.raises(ConfigurationError, match="holds no prices"):
        read_price_file(tmp_path)


def test_a_file_is_held_against_the_sum_beside_it(tmp_path: Path) -> None:
    """A file that changed after its sum was written is refused."""
    file = tmp_path / "prices-2026-11-20.json"
    file.write_bytes(cost_map(mine=1.0))
    beside = file.with_name(f"{file.name}.sha256")

    beside.write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n")
    assert read_price_file(file).find("mine", 0) is not None
    file.write_bytes(cost_map(mine=2.0))
    with pytest.raises(ConfigurationError, match="its sha256 is"):
        read_price_file(file)


# -- an installed LiteLLM ----------------------------------------------------------------------


def install(monkeypatch: pytest.MonkeyPatch, where: Path, version: str | None, data: bytes) -> None:
    """Put a package named litellm, with its metadata, first on the path."""
    package = where / "litellm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('litellm was imported')")
    (package / MAP_FILE).write_bytes(data)
    if version:
        (where / f"litellm-{version}.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(where))
    monkeypatch.delitem(sys.modules, "litellm", raising=False)


def test_a_newer_litellm_is_read_and_not_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The map of a newer package counts from the day after the snapshot's."""
    install(monkeypatch, tmp_path, "99.0.0", cost_map(o3=7.0))
    estimator = CostEstimator()
    later = datetime(2026, 11, 13, tzinfo=timezone.utc)

    cost = estimator.estimate(1_000_000, 0, "o3", at=later)

    assert (cost.total_cost, cost.price_version) == (7, "2026-11-13 litellm-99.0.0")
    earlier = estimator.estimate(1_000_000, 0, "o3", at=datetime(2026, 11, 12, tzinfo=timezone.utc))
    assert earlier.total_cost == 2
    assert "o3" in estimator.catalog.starting_with("o3")
    assert "o3" in set(estimator.catalog)
    assert "litellm" not in sys.modules


@pytest.mark.parametrize("version", ["1.60.0", "1.109.1", None])
def test_an_older_litellm_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str | None
) -> None:
    """A map that the snapshot already contains, or whose age is unknown, changes nothing."""
    install(monkeypatch, tmp_path, version, cost_map(o3=7.0))

    assert installed_map(newer_than=bundled_table().header) is None


def test_a_broken_map_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A newer package whose map cannot be read does no harm."""
    install(monkeypatch, tmp_path, "99.0.0", b"no json")

    assert installed_map(newer_than=bundled_table().header) is None


def test_without_litellm_there_is_no_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is absent, or a stand-in without a spec, has no map."""
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "litellm", raising=False)
    assert installed_map(newer_than=bundled_table().header) is None

    stand_in = ModuleType("litellm")
    stand_in.__spec__ = None
    monkeypatch.setitem(sys.modules, "litellm", stand_in)
    with pytest.raises(FileNotFoundError):
        installed_map_file()

    stand_in.__spec__ = ModuleSpec("litellm", None)
    with pytest.raises(FileNotFoundError):
        installed_map_file()


# -- LiteLLM's fields --------------------------------------------------------------------------


def fields(**more: object) -> dict[str, object]:
    return {
        "litellm_provider": "openai",
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 2e-06,
        **more,
    }


def test_float_noise_is_not_a_price() -> None:
    """Fifteen digits count; a real fraction of a pico-dollar stays."""
    noisy = entry_of_litellm("a", fields(input_cost_per_token=8.000000000000001e-07))
    fine = entry_of_litellm("b", fields(input_cost_per_token=1.41953125e-07))

    assert noisy is not None
    assert fine is not None
    assert noisy.rows[0].usd["input"] == Decimal("0.8")
    assert fine.rows[0].usd["input"] == Decimal("0.141953125")


@pytest.mark.parametrize("value", ["words", None, True, -1, float("nan"), {"x": 1}])
def test_what_is_no_number_is_no_price(value: object) -> None:
    """Broken fields are left out."""
    entry = entry_of_litellm("a", fields(cache_read_input_token_cost=value))

    assert entry is not None
    assert "cache_read" not in entry.rows[0].usd


def test_a_row_of_zeros_beside_another_price_is_no_price() -> None:
    """Images and seconds are not billed by tokens; a query or a request is a fee."""
    zeros = {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}

    assert entry_of_litellm("a", fields(**zeros, output_cost_per_image=0.04)) is None
    assert entry_of_litellm("b", {"mode": "chat"}) is None
    free = entry_of_litellm("c", fields(**zeros))
    fee = entry_of_litellm("d", fields(**zeros, input_cost_per_query=0.002))
    assert free is not None
    assert fee is not None
    assert (free.rows[0].call_usd, fee.rows[0].call_usd) == (None, Decimal("0.002"))


def test_the_many_forms_of_a_row_are_read() -> None:
    """Cache hits, searches as one number, windows without rules, names of weekdays."""
    block = {"hours_utc": "16:30-00:30", "input_cost_per_token": 5e-07}
    entry = entry_of_litellm(
        "a",
        fields(
            input_cost_per_token_cache_hit=1e-07,
            search_context_cost_per_query=0.01,
            off_peak_pricing={
                **block,
                "windows": [{"hours_utc": ["01:00-02:00"], "weekdays": ["Sat", "sunday", 1]}],
            },
            provider_specific_entry={"us": 1.1, "eu": 1.0, "frames": {"x": 1}},
            max_tokens="4096",
        ),
    )

    assert entry is not None
    (only,) = entry.rows
    assert (only.usd["cache_read"], only.search_usd) == (Decimal("0.1"), Decimal("0.01"))
    assert only.factor == {"region:us": Decimal("1.1")}
    assert only.off_peak is not None
    assert [(w.hours, w.weekdays) for w in only.off_peak.windows] == [
        (("01:00-02:00",), (6, 7, 1)),
        (("16:30-00:30",), ()),
    ]
    assert entry.max_input_tokens == 4096


@pytest.mark.parametrize(
    "block",
    [
        "words",
        {"input_cost_per_token": 1e-07},
        {"hours_utc": "00:00-01:00"},
        {"hours_utc": "00:00-01:00", "input_cost_per_token": 1e-07, "weekday_timezone": "Mars"},
    ],
)
def test_an_off_peak_block_that_makes_no_sense_is_left_out(block: object) -> None:
    """Without hours, rates or a known calendar there is no other price."""
    entry = entry_of_litellm("a", fields(off_peak_pricing=block))

    assert entry is not None
    assert entry.rows[0].off_peak is None


def test_a_range_without_bounds_is_left_out() -> None:
    """Prices by the number of results are no prices by tokens."""
    tiers = [{"max_results_range": [0, 25], "input_cost_per_query": 0.005}]
    entry = entry_of_litellm("a", fields(tiered_pricing=tiers))

    assert entry is not None
    assert set(entry.rows[0].usd) == {"input", "output"}


def test_a_newer_map_wins_over_an_alias(tmp_path: Path) -> None:
    """A name that was but an alias gets a row of its own."""
    file = tmp_path / "prices-2026-11-20.json"
    file.write_bytes(cost_map(**{"claude-3-opus": 7.0}))

    cost = CostEstimator(prices_file=file).estimate(1_000_000, 0, "claude-3-opus")

    assert (cost.total_cost, cost.matched_key) == (7, "claude-3-opus")


def test_a_search_price_without_sizes_is_none() -> None:
    """A mapping without any known size has no price."""
    entry = entry_of_litellm("a", fields(search_context_cost_per_query={"x": 1}))

    assert entry is not None
    assert entry.rows[0].search_usd is None
