"""The documents: what they list is what there is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from agentsight_tokens import config

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
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *PAGES]:
        for target in re.findall(r"\]\(((?!https?:)[^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)


def test_the_documents_name_no_unknown_variable() -> None:
    """Every variable that a document names is read by the configuration."""
    known = {*config.VARIABLES.values(), *config.COST_RATE_PREFIXES}
    for page in PAGES:
        for name in re.findall(r"AGENTSIGHT_[A-Z_]+", page.read_text()):
            assert name in known or name.startswith(config.COST_RATE_PREFIXES), (page.name, name)
