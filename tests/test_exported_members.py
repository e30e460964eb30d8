"""The public interface."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import agentsight_tokens

FRAMEWORKS = ("langchain_core", "llama_index", "litellm", "openai", "anthropic", "pydantic")
SERVERS = ("starlette", "uvicorn", "sqlalchemy", "http.server")


def test_every_exported_name_exists() -> None:
    """Each name of `__all__` can be had, and the list is sorted."""
    assert agentsight_tokens.__all__ == sorted(agentsight_tokens.__all__)
    for name in agentsight_tokens.__all__:
        assert getattr(agentsight_tokens, name) is not None


def test_unknown_names_are_refused() -> None:
    """A name that does not exist raises as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = agentsight_tokens.nothing


def test_the_lazy_table_names_every_type_checkers_import() -> None:
    """What a type checker sees is what there is at run time."""
    source = importlib.util.find_spec("agentsight_tokens").origin
    with open(source) as file:  # noqa: PTH123
        declared = {
            line.split(" as ")[1].strip()
            for line in file
            if line.startswith("    from .") and " as " in line
        }

    assert declared == set(agentsight_tokens.__all__)


@pytest.mark.parametrize(
    "name",
    sorted(
        module.name
        for module in pkgutil.iter_modules(agentsight_tokens.__path__, "agentsight_tokens.")
    ),
)
def test_every_module_names_its_exports(name: str) -> None:
    """Each module has its own `__all__`, and what it names is there."""
    module = importlib.import_module(name)
    if not name.endswith((".cli", ".backend", ".__main__")):
        assert [n for n in module.__all__ if not hasattr(module, n)] == []


def test_the_import_loads_nothing_heavy() -> None:
    """`import agentsight_tokens` imports no framework, no server and no model builder."""
    code = f"""
import sys
before = set(sys.modules)
import agentsight_tokens
print(sorted(name for name in set(sys.modules) - before))
from agentsight_tokens import ConversationTracker
ConversationTracker().close()
loaded = [name for name in {FRAMEWORKS + SERVERS!r} if name in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    modules = [n for n in eval(done.stdout) if n.startswith("agentsight")]
    assert modules == ["agentsight_tokens"]
