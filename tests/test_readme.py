"""The README: what it shows is run, what it lists is complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agentsight_tokens.config import VARIABLES
from agentsight_tokens.testing import LoopbackProvider

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(code: str, provider: LoopbackProvider) -> str:
    """Run a block as its reader would, with the loopback provider as the only network."""
    environment = {
        **os.environ,
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_URL": provider.openai_url,
        "OPENAI_API_BASE": provider.openai_url,
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_quickstart_counts_what_was_billed() -> None:
    """The first block, under 15 lines, prints the provider's own figures."""
    pytest.importorskip("langchain_openai")
    quickstart = BLOCKS[0]
    assert len([line for line in quickstart.splitlines() if line.strip()]) < 15
    with LoopbackProvider() as provider:
        printed = run(quickstart, provider).splitlines()
        usage = provider.billed()

    assert printed == [
        str(
            {
                "prompt_llm_token_count": usage.input_tokens,
                "completion_llm_token_count": usage.output_tokens,
                "total_llm_token_count": usage.total_tokens,
                "total_embedding_token_count": 0,
            }
        ),
        "delivered",
    ]


def test_the_manual_sample_prints_what_it_says() -> None:
    """The second block prints the comment that stands in it."""
    manual = BLOCKS[1]
    expected = re.search(r"^# (\{.*\})$", manual, re.MULTILINE)
    with LoopbackProvider() as provider:
        printed = run(manual, provider).splitlines()

    assert printed[0] == expected.group(1)
    assert printed[1].split()[:2] == ["115", "2"]


def test_every_setting_is_in_the_table() -> None:
    """The table lists the variables of the configuration, and no others."""
    listed = set(re.findall(r"^\| `(AGENTSIGHT_\w+)(?:<MODEL>)?` \|", README, re.MULTILINE))

    assert listed == {*VARIABLES.values(), "AGENTSIGHT_COST_RATES__"}


def test_every_link_leads_somewhere() -> None:
    """The files that the README points to are there."""
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (ROOT / target).exists(), target
