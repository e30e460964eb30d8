"""Taking newer prices over, and prices from spreadsheets."""

from __future__ import annotations

import hashlib
import io
import json
import urllib.request
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

import pytest

from agentsight_tokens.errors import ConfigurationError
from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.pricing.catalog import Catalog, bundled_table
from agentsight_tokens.pricing.price_csv import COLUMNS, import_csv, prices_of_csv
from agentsight_tokens.pricing.updates import LITELLM_URL, PriceChange, price_changes, update_prices

NOW = datetime(2026, 11, 22, 9, tzinfo=timezone.utc)


def write_map(file: Path, models: Mapping[str, float]) -> Path:
    content = {
        name: {"input_cost_per_token": price / 1e6, "output_cost_per_token": price / 1e6}
        for name, price in models.items()
    }
    file.write_text(json.dumps(content))
    return file


def test_an_update_is_a_dated_file_with_its_sum(tmp_path: Path) -> None:
    """The map is kept byte for byte, beside a sum that `sha256sum -c` reads."""
    origin = write_map(tmp_path / "map.json", {"a": 1.0, "o3": 9.0})

    update = update_prices(str(origin), tmp_path / "prices", now=NOW, allow_fewer=True)

    assert update.path == tmp_path / "prices" / "prices-2026-11-22.json"
    assert update.path.read_bytes() == origin.read_bytes()
    assert update.sha256 == hashlib.sha256(origin.read_bytes()).hexdigest()
    beside = tmp_path / "prices" / "prices-2026-11-22.json.sha256"
    assert beside.read_text() == f"{update.sha256}  prices-2026-11-22.json\n"
    assert sorted(path.name for path in update.path.parent.iterdir()) == [
        "prices-2026-11-22.json",
        "prices-2026-11-22.json.sha256",
    ]
    estimator = CostEstimator(prices_file=update.path.parent)
    assert estimator.estimate(1_000_000, 0, "o3", at=NOW).total_cost == 9


def test_an_update_shows_what_it_changes(tmp_path: Path) -> None:
    """Changes are told against the prices until then: the snapshot's, or an earlier update's."""
    first = write_map(tmp_path / "1.json", {"mine-a": 1.0, "mine-b": 2.0})
    second = write_map(tmp_path / "2.json", {"mine-a": 1.5, "mine-b": 2.0})

    new = update_prices(str(first), tmp_path / "p", now=NOW, allow_fewer=True)
    again = update_prices(str(second), tmp_path / "p", now=NOW)

    assert [(c.model, c.kind) for c in new.changes] == [("mine-a", "added"), ("mine-b", "added")]
    assert [(c.model, c.rate, c.before, c.after) for c in again.changes] == [
        ("mine-a", "input", 1, 1.5),
        ("mine-a", "output", 1, 1.5),
    ]
    assert {change.kind for change in again.changes} == {"changed"}


def test_a_shrunken_map_is_refused(tmp_path: Path) -> None:
    """A map that lost a tenth of its models is no update unless one says so."""
    names = [f"m{number}" for number in range(100)]
    whole = write_map(tmp_path / "whole.json", dict.fromkeys(names, 1.0))
    less = write_map(tmp_path / "less.json", dict.fromkeys(names[:89], 1.0))
    enough = write_map(tmp_path / "enough.json", dict.fromkeys(names[:90], 1.0))
    folder = tmp_path / "p"

    with pytest.raises(ConfigurationError, match="a map that shrinks is refused"):
        update_prices(str(whole), folder, now=NOW)
    assert not folder.exists()
    update_prices(str(whole), folder, now=NOW, allow_fewer=True)
    with pytest.raises(ConfigurationError, match="prices 89 models, the prices until now 100"):
        update_prices(str(less), folder, now=NOW)
    assert update_prices(str(enough), folder, now=NOW).models == 90


@pytest.mark.parametrize("origin", ["no-such-file.json", "litellm"])
def test_an_origin_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, origin: str
) -> None:
    """A file that is not there and a package that is not installed are named."""
    monkeypatch.setattr(
        "agentsight_tokens.pricing.updates.installed_map_file", lambda: tmp_path / "gone"
    )
    with pytest.raises(ConfigurationError, match=origin):
        update_prices(origin, tmp_path)


def test_an_origin_that_is_no_map_is_named(tmp_path: Path) -> None:
    """A page that is no JSON is no cost map."""
    (tmp_path / "page.html").write_text("<html>")

    with pytest.raises(ConfigurationError, match="is no cost map"):
        update_prices(str(tmp_path / "page.html"), tmp_path)


def test_an_address_is_asked_only_when_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An https address is fetched; nothing else ever is."""
    data = write_map(tmp_path / "map.json", {"a": 1.0}).read_bytes()
    asked = []

    def answer(address: str, timeout: float) -> io.BytesIO:
        asked.append((address, timeout))
        return io.BytesIO(data)

    monkeypatch.setattr(urllib.request, "urlopen", answer)

    update_prices(LITELLM_URL, tmp_path / "p", now=NOW, allow_fewer=True)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        update_prices("http://example.com/map.json", tmp_path / "p")

    assert asked == [(LITELLM_URL, 30.0)]


def test_a_removed_model_is_a_change(tmp_path: Path) -> None:
    """Going back from an update to the snapshot removes what only the update had."""
    origin = write_map(tmp_path / "map.json", {"mine": 1.0, "o3": 2.0})
    update = update_prices(str(origin), tmp_path / "p", allow_fewer=True)
    newer = CostEstimator(prices_file=update.path).catalog

    changes = price_changes(newer, Catalog(bundled_table()))

    assert PriceChange("mine", "removed") in changes
    assert {change.model for change in changes} == {"mine", "o3"}


# -- spreadsheets ------------------------------------------------------------------------------


def test_a_sheet_becomes_prices(tmp_path: Path) -> None:
    """Columns in any order, empty cells, thousands and several days of one model."""
    sheet = tmp_path / "prices.csv"
    sheet.write_text(
        "\ufeffModel,provider,output,input,per,since,currency,usd_per_unit\n"
        'mine,,6,2,"1,000,000",,,\n'
        ",,,,,,,\n"
        "mine,,3,1,1000000,2026-03-01,,\n"
        "theirs,azure,0.006,0.002,1000,,EUR,1.25\n"
    )
    target = tmp_path / "prices.json"
    target.write_text('{"prices": {"kept": 1}, "deployments": {"d": "mine"}}')

    count = import_csv(sheet, target)

    assert count == 2
    assert json.loads(target.read_text())["deployments"] == {"d": "mine"}
    estimator = CostEstimator(prices_file=target)
    old = datetime(2026, 2, 1, tzinfo=timezone.utc)
    assert estimator.estimate(1_000_000, 0, "mine", at=old).total_cost == 2
    assert estimator.estimate(1_000_000, 0, "d").total_cost == 1
    assert estimator.estimate(1_000_000, 0, "theirs", provider="azure").total_cost == 2.5
    assert estimator.estimate(1000, 0, "kept").total_cost == 1


def test_a_sheet_makes_a_file_where_there_is_none(tmp_path: Path) -> None:
    """The prices file is made if it is missing."""
    sheet = tmp_path / "prices.csv"
    sheet.write_text("model,input,output\nmine,1,2\n")

    import_csv(sheet, tmp_path / "new.json")

    assert json.loads((tmp_path / "new.json").read_text()) == {
        "prices": {"mine": [{"input": "1", "output": "2"}]}
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,input\nmine,1\n", r"lacks \['output'\]"),
        ("model,input,output,colour\n", "colour"),
        ("", "lacks"),
        ("model,input,output\nmine,cheap,1\n", r"prices\.csv:2: a price must be a number"),
        ("model,input,output\n,1,1\n", r"prices\.csv:2: it names no model"),
        ("model,input,output,per\nm,1,1,lots\n", r"prices\.csv:2"),
        ("model,input,output\nm,1,1\nm,2,2\n", r"prices\.csv:3: prices that follow"),
    ],
)
def test_a_sheet_that_cannot_be_read_names_the_line(
    tmp_path: Path, text: str, message: str
) -> None:
    """A wrong header or cell raises with its place."""
    sheet = tmp_path / "prices.csv"
    sheet.write_text(text)

    with pytest.raises(ConfigurationError, match=message):
        prices_of_csv(sheet)


def test_a_missing_sheet_is_named(tmp_path: Path) -> None:
    """A path that leads nowhere raises."""
    with pytest.raises(ConfigurationError, match=r"gone\.csv"):
        prices_of_csv(tmp_path / "gone.csv")


def test_the_columns_are_known() -> None:
    """What a sheet may contain is public."""
    assert COLUMNS[:4] == ("model", "provider", "input", "output")
