"""`prices` and `reconcile`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentsight_tokens import ConversationTracker, TokenConfig
from agentsight_tokens.cli.app import app
from agentsight_tokens.pricing.catalog import Catalog


@pytest.fixture(autouse=True)
def filters_are_restored() -> Iterator[None]:
    with warnings.catch_warnings():
        yield


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def ledger() -> None:
    """Two calls, one of them with a model that nobody sells."""
    with ConversationTracker() as tracker:
        tracker.track_token_usage(1000, 500, model="gpt-4o", cache_read_tokens=400)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tracker.track_token_usage(10, 5, model="no-such-model-1")


def calls() -> dict[str, dict[str, object]]:
    return {row["model"]: row for row in json.loads(run("calls", "--format", "json").stdout)}


def test_a_models_prices_are_shown_with_their_history() -> None:
    """Each dated row says its rates and who says so."""
    shown = run("prices", "show", "openai/gpt-4o")

    assert shown.exit_code == 0
    assert "input                        2.5" in shown.stdout
    assert "until further notice" in shown.stdout


def test_an_unknown_model_says_what_to_do() -> None:
    """Where nothing is known, the way out is named."""
    shown = run("prices", "show", "no-such-model-1")

    assert shown.exit_code == 1
    assert "prices import" in shown.stderr


@pytest.mark.usefixtures("ledger")
def test_a_cost_is_explained_line_by_line() -> None:
    """The arithmetic of a call adds up to its cost."""
    shown = run("prices", "explain", calls()["gpt-4o"]["id"])

    assert shown.exit_code == 0
    assert "600 x $2.5 per million = $0.0015" in shown.stdout
    assert "400 x $1.25 per million = $0.0005" in shown.stdout
    assert "total $0.007, priced" in shown.stdout
    assert "unpriced" in run("prices", "explain").stdout
    assert run("prices", "explain", "nothing").exit_code == 1


@pytest.mark.usefixtures("ledger")
def test_repricing_keeps_the_old_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run changes nothing; a real one keeps what the call cost before."""
    from agentsight_tokens.backend.store import SQLiteStore

    monkeypatch.setenv("AGENTSIGHT_COST_RATES__NO_SUCH_MODEL_1", "1")
    dry = run("prices", "reprice", "--dry-run", "--format", "json")
    (change,) = json.loads(dry.stdout)
    assert (change["old_cost_usd"], change["new_cost_usd"]) == (None, "0.015")
    assert calls()["no-such-model-1"]["cost_usd"] is None

    done = run("prices", "reprice", "--since", "2026-01-01")

    assert "1 of 2 calls changed, together by 0.015 USD" in done.stderr
    assert calls()["no-such-model-1"]["cost_usd"] == "0.015"
    assert calls()["gpt-4o"]["cost_usd"] == "0.007"
    with SQLiteStore(TokenConfig().directory / "store.db") as store:
        rows = store.rows("SELECT cost_pico_usd, cost_status FROM repricings")
    assert rows == [(None, "unpriced")]
    assert "0 of 2 calls would change" in run("prices", "reprice", "--dry-run").stderr


def test_an_update_is_used_from_then_on(tmp_path: Path) -> None:
    """A map that is taken over prices the calls that follow."""
    map_file = tmp_path / "map.json"
    rates = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "mode": "chat"}
    map_file.write_text(json.dumps({"brand-new-1": {**rates, "litellm_provider": "openai"}}))

    assert "shrinks" in run("prices", "update", "--from", str(map_file)).stderr
    differing = run("prices", "diff", "--from", str(map_file), "--format", "json")
    added = [row for row in json.loads(differing.stdout) if row["kind"] == "added"]
    assert [row["model"] for row in added] == ["brand-new-1"]
    taken = run("prices", "update", "--from", str(map_file), "--allow-fewer", "--format", "csv")
    assert taken.exit_code == 0, taken.stderr
    assert "sha256" in taken.stderr

    with ConversationTracker() as tracker:
        tracker.track_token_usage(1_000_000, 0, model="brand-new-1")
        assert tracker.get_cost() == 1


def test_prices_are_imported_from_a_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CSV file becomes a prices file."""
    sheet = tmp_path / "own.csv"
    sheet.write_text("model,input,output\nmine-1,3,6\n")
    target = tmp_path / "prices.json"

    assert run("prices", "import", str(sheet), "--to", str(target)).exit_code == 0
    monkeypatch.setenv("AGENTSIGHT_PRICES_FILE", str(target))

    assert "input" in run("prices", "show", "mine-1").stdout


@pytest.mark.usefixtures("ledger")
def test_the_ledger_is_held_against_a_report(tmp_path: Path) -> None:
    """What agrees is said to agree; what differs is told with its difference."""
    today = datetime.now(timezone.utc).date()
    start = int(datetime(today.year, today.month, today.day, tzinfo=timezone.utc).timestamp())

    def report(input_tokens: int) -> str:
        result = {
            "object": "organization.usage.completions.result",
            "input_tokens": input_tokens,
            "output_tokens": 500,
            "input_cached_tokens": 400,
            "num_model_requests": 1,
            "model": "gpt-4o-2024-08-06",
        }
        bucket = {"object": "bucket", "start_time": start, "end_time": start + 86400}
        page = {"object": "page", "data": [{**bucket, "results": [result]}]}
        file = tmp_path / f"{input_tokens}.json"
        file.write_text(json.dumps(page))
        return str(file)

    equal = run("reconcile", report(1000), "--format", "json")
    rows = {row["model"]: row for row in json.loads(equal.stdout)}
    assert rows["gpt-4o"]["agrees"]
    differs = run("reconcile", report(900), "--only-differences")
    assert differs.exit_code == 1
    assert "1000 (+100)" in differs.stdout
    assert run("reconcile", str(tmp_path / "missing.json")).exit_code == 2


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(("days", "is_said"), [(60, False), (61, True)])
def test_reports_say_when_prices_are_old(
    monkeypatch: pytest.MonkeyPatch, days: int, is_said: bool
) -> None:
    """Once the prices are older than 60 days, a report says so."""
    monkeypatch.setattr(Catalog, "age_days", lambda self: days)

    assert ("prices update" in run("report").stdout) is is_said
