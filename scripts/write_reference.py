"""Write the pages of the reference that are made from the code: settings and commands.

    python scripts/write_reference.py

tests/test_docs.py compares the pages with what this returns.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import typer.main
from typer.testing import CliRunner

from agentsight_tokens.cli.app import app
from agentsight_tokens.config import VARIABLES, TokenConfig
from agentsight_tokens.presets import PRESETS

DOCS: Final = Path(__file__).parent.parent / "docs" / "reference"
_WIDTH: Final = 100


def configuration() -> str:
    """Return the page of the settings."""
    rows = "\n".join(_setting(field) for field in msgspec.structs.fields(TokenConfig))
    names = [name for name in PRESETS if PRESETS[name]]
    shown = sorted({key for name in names for key in PRESETS[name]})
    presets = "\n".join(
        f"| `{key}` | " + " | ".join(_value(PRESETS[name].get(key)) for name in names) + " |"
        for key in shown
    )
    return f"""# Settings

An argument wins over the environment, the environment over the default. An empty variable is unset. A setting that cannot
be read ends the start, with a message that names the variable. `TokenConfig.from_file` reads JSON and TOML with the field
names; the environment wins over the file.

| field | variable | default | what it does |
|---|---|---|---|
{rows}

## Presets

`TokenConfig.preset(name)`, and `TokenConfig.production()`, `development()` and `enterprise()` for short;
`TokenConfig.detected()` takes the one of the environment in which it runs. Variables win over presets; what a preset
leaves out keeps its default.

| field | {" | ".join(f"`{name}`" for name in names)} |
|---|{"---|" * len(names)}
{presets}

::: agentsight_tokens.config.TokenConfig
    options:
      members: [from_env, from_dict, from_file, preset, detected, problems, save, to_dict, replace]
"""


def commands() -> str:
    """Return the page of the command line: the help of every command."""
    runner = CliRunner(env={"COLUMNS": str(_WIDTH), "NO_COLOR": "1"})
    parts = []
    for path in _paths(typer.main.get_command(app), ()):
        text = runner.invoke(app, [*path, "--help"], prog_name="agentsight-tokens").output
        lines = "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
        title = " ".join(("agentsight-tokens", *path))
        parts.append(f"{'#' * (1 + min(len(path), 2))} {title}\n\n```text\n{lines}\n```\n")
    parts[0] = parts[0].replace("# agentsight-tokens", "# Commands", 1)
    return "\n".join(parts)


def _setting(field: msgspec.structs.FieldInfo) -> str:
    variable = VARIABLES.get(field.name, "AGENTSIGHT_COST_RATES__<MODEL>")
    return f"| `{field.name}` | `{variable}` | {_default(field)} | {_DESCRIPTIONS[field.name]} |"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.name == "data_dir":
        return "the user's data directory"
    return _value(field.default_factory())


def _value(value: Any) -> str:
    if value is None or value == "" or value == {}:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:,}" if isinstance(value, int) else f"`{value}`"


def _descriptions() -> dict[str, str]:
    """Return what stands below each field, without its variable."""
    module = ast.parse(inspect.getsource(sys.modules[TokenConfig.__module__]))
    [body] = [
        n.body for n in module.body if isinstance(n, ast.ClassDef) and n.name == "TokenConfig"
    ]
    found = {}
    for field, below in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            _, _, text = ast.literal_eval(below.value).partition(": ")
            found[ast.unparse(field.target)] = re.sub(r"\s+", " ", text)
    return found


_DESCRIPTIONS: Final = _descriptions()


def _paths(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield path
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from _paths(child, (*path, name))


if __name__ == "__main__":
    (DOCS / "configuration.md").write_text(configuration())
    (DOCS / "cli.md").write_text(commands())
