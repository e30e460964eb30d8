"""The documents: what they list is what there is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import agentsight_tokens
from agentsight_tokens import config
from scripts import write_reference

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="reads pyproject.toml with tomllib")
def test_the_layers_are_those_that_are_checked() -> None:
    """The layers of the architecture page are those of the contract."""
    import tomllib

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (flow,) = [c for c in contracts["contracts"] if c["id"] == "flow"]
    page = (ROOT / "docs" / "architecture.md").read_text()

    assert "\n".join(flow["layers"]) in page


def test_links_between_documents_lead_somewhere() -> None:
    """Every relative link of a document is a file."""
    for page in [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("examples/**/*.md")), *PAGES]:
        for target in re.findall(r"\]\(((?!https?:)[^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)


def test_the_documents_name_no_unknown_variable() -> None:
    """Every variable that a document names is read by the configuration."""
    known = {*config.VARIABLES.values(), *config.COST_RATE_PREFIXES}
    for page in PAGES:
        for name in re.findall(r"AGENTSIGHT_[A-Z_]+", page.read_text()):
            assert name in known or name.startswith(config.COST_RATE_PREFIXES), (page.name, name)


def test_the_page_of_settings_is_made_from_the_configuration() -> None:
    """`python scripts/write_reference.py` would change nothing."""
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()

    assert page == write_reference.configuration()


def test_the_page_of_commands_is_made_from_their_help() -> None:
    """`python scripts/write_reference.py` would change nothing."""
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()

    assert page == write_reference.commands()


def test_every_page_is_in_the_navigation() -> None:
    """No page of the site can be reached by a search alone."""
    listed = set(re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))

    assert listed == {str(page.relative_to(ROOT / "docs")) for page in PAGES}


def test_every_public_name_is_in_the_reference() -> None:
    """The pages of the reference describe each name of the package."""
    pages = "".join(p.read_text() for p in (ROOT / "docs" / "reference").glob("*.md"))
    shown = set(re.findall(r"^::: [\w.]+\.(\w+)$", pages, re.MULTILINE))
    errors = {name for name in agentsight_tokens.__all__ if name.endswith(("Error", "Warning"))}

    assert {*agentsight_tokens.__all__} <= shown | errors


def test_contributing_names_files_that_are_there() -> None:
    """Every file and folder that it names in backticks can be opened."""
    page = (ROOT / "CONTRIBUTING.md").read_text()

    for path in re.findall(
        r"`((?:tests|docs|agentsight_tokens|integrations|notebooks)/[^` ]*)`", page
    ):
        assert [*ROOT.glob(path.rstrip("/"))], path
