"""The pages of the documentation: what they show is run."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agentsight_tokens.testing import LoopbackProvider

PAGES = sorted((Path(__file__).parent.parent / "docs").rglob("*.md"))


def code_of(page: Path) -> str:
    """Return the Python blocks of a page, which are one program."""
    return "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))


@pytest.mark.programs
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
