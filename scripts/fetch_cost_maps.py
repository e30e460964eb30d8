"""
Fetch the cost maps of LiteLLM's releases, for `compile_prices.py`.

    python scripts/fetch_cost_maps.py MAPS_DIRECTORY [VERSION ...]

Writes `<version>@<YYYY-MM-DD>.json` for each release: the map of its wheel and the day on which
PyPI received it. Without versions, those of the snapshot in the package and the newest one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path

from agentsight_tokens.pricing.catalog import bundled_table
from agentsight_tokens.pricing.installed_map import MAP_FILE

INDEX = "https://pypi.org/simple/litellm/"


def main(arguments: list[str] | None = None) -> int:
    """Fetch what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("maps", type=Path)
    parser.add_argument("versions", nargs="*")
    options = parser.parse_args(arguments)

    days = _days()
    options.maps.mkdir(parents=True, exist_ok=True)
    for version in options.versions or [*_known_versions(), _newest(days)]:
        target = options.maps / f"{version}@{days[version]}.json"
        if not target.exists():
            target.write_bytes(_map_of(version))
            print(target.name)  # noqa: T201
    return 0


def _known_versions() -> list[str]:
    names = (source.name for source in bundled_table().header.sources)
    return [name.removeprefix("litellm-") for name in names if name.startswith("litellm-")]


def _days() -> dict[str, str]:
    """Return the day of each release's first upload."""
    question = urllib.request.Request(  # a constant https address
        INDEX, headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(question, timeout=60) as answer:  # noqa: S310
        files = json.load(answer)["files"]
    days: dict[str, str] = {}
    for file in files:
        version = file["filename"].removesuffix(".tar.gz").split("-")[1]
        day = file["upload-time"][:10]
        days[version] = min(days.get(version, day), day)
    return days


def _newest(days: dict[str, str]) -> str:
    final = [version for version in days if version.replace(".", "").isdigit()]
    return max(final, key=lambda version: tuple(map(int, version.split("."))))


def _map_of(version: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(  # noqa: S603  # pip, by the path of this interpreter
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--only-binary", ":all:", "--python-version", "3.12"),
                *("--dest", folder, f"litellm=={version}"),
            ],
            check=True,
        )
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(f"litellm/{MAP_FILE}")


if __name__ == "__main__":
    sys.exit(main())
