"""The documents: what they list is what there is."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agentsight_tokens import config
from agentsight_tokens.testing import LoopbackProvider

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def code_of(page: Path) -> str:
    """Return the Python blocks of a page, which are one program."""
    return "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))


@pytest.mark.parametrize("page", [p for p in PAGES if code_of(p)], ids=lambda page: page.stem)
def test_what_a_page_shows_runs(page: Path, tmp_path: Path) -> None:
    """Its blocks run as one program, and print the lines after `# >`, in their order."""
    code = code_of(page)
    for module in set(re.findall(r"^ *(?:from|import) (\w+)", code, re.MULTILINE)):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    with LoopbackProvider() as provider:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            timeout=100,
            env={
                **os.environ,
                "OPENAI_API_KEY": "k",
                "OPENAI_BASE_URL": provider.openai_url,
                "OPENAI_API_BASE": provider.openai_url,
                "ANTHROPIC_API_KEY": "k",
                "ANTHROPIC_BASE_URL": provider.anthropic_url,
            },
        )

    assert done.returncode == 0, done.stderr
    printed = iter(done.stdout.splitlines())
    for line in re.findall(r"^ *# > (.*)$", code, re.MULTILINE):
        assert line in printed, (line, done.stdout)


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
