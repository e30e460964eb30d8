"""Tokens of an image, by the rules that OpenAI documents."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from math import ceil, floor, sqrt
from typing import Final, TypeVar

__all__ = ["image_size", "image_tokens", "largest_image_tokens"]

_V = TypeVar("_V")

_LONGEST_SIDE: Final = 2048
_SHORTEST_SIDE: Final = 768
_TILE: Final = 512
_MOST_TILES: Final = 8
_PATCH: Final = 32
_MOST_PATCHES: Final = 1536

_PATCH_MULTIPLIERS: Final = {
    "gpt-4.1-mini": 1.62,
    "gpt-4.1-nano": 2.46,
    "gpt-5-mini": 1.62,
    "gpt-5-nano": 2.46,
    "o4-mini": 1.72,
}
"""Models that count patches of 32 pixels, and what one of them costs."""

_TILES: Final = {
    "computer-use-preview": (65, 129),
    "gpt-4o-mini": (2833, 5667),
    "gpt-5": (70, 140),
    "o1": (75, 150),
    "o3": (75, 150),
}
"""Models that count tiles of 512 pixels otherwise than gpt-4o: tokens of an image and a tile."""

_GPT_4O_TILES: Final = (85, 170)


def image_tokens(width: int, height: int, *, model: str | None = None, detail: str = "high") -> int:
    """
    Return the tokens of an image.

    Tiles: the image is scaled down to fit 2048 x 2048 pixels and then until its shorter side
    has 768; every tile of 512 pixels that it needs is counted, and a base; at low detail the
    base alone. Patches: every patch of 32 pixels is counted, after scaling down to 1,536
    patches, times the model's multiplier.

    https://platform.openai.com/docs/guides/images-vision#calculating-costs, checked 2026-11-22.

    Args:
        width: In pixels.
        height: In pixels.
        model: The model that reads it; without one, gpt-4o's rule.
        detail: `low`, `high` or `auto`, which is counted as high.

    Raises:
        ValueError: If a side is not above 0.
    """
    if width <= 0 or height <= 0:
        raise ValueError(f"an image has sides above 0, not {width!r} x {height!r}")
    name = _base_name(model)
    multiplier = _of_model(_PATCH_MULTIPLIERS, name)
    if multiplier is not None:
        if detail == "low":
            width, height = _scaled(width, height, min(1.0, _TILE / max(width, height)))
        return ceil(_patches(width, height) * multiplier)
    base, tile = _of_model(_TILES, name) or _GPT_4O_TILES
    if detail == "low":
        return base
    width, height = _scaled(width, height, min(1.0, _LONGEST_SIDE / max(width, height)))
    width, height = _scaled(width, height, min(1.0, _SHORTEST_SIDE / min(width, height)))
    return base + tile * ceil(width / _TILE) * ceil(height / _TILE)


def largest_image_tokens(*, model: str | None = None, detail: str = "high") -> int:
    """Return the most tokens that an image of any size can have."""
    name = _base_name(model)
    multiplier = _of_model(_PATCH_MULTIPLIERS, name)
    if multiplier is not None:
        patches = (_TILE // _PATCH) ** 2 if detail == "low" else _MOST_PATCHES
        return ceil(patches * multiplier)
    base, tile = _of_model(_TILES, name) or _GPT_4O_TILES
    return base if detail == "low" else base + tile * _MOST_TILES


def _base_name(model: str | None) -> str:
    return (model or "").lower().rpartition("/")[2].removeprefix("ft:")


def _of_model(table: dict[str, _V], name: str) -> _V | None:
    """Return the value of the longest name that the model's begins with."""
    matches = [key for key in (*_PATCH_MULTIPLIERS, *_TILES) if _is_a(name, key)]
    return table.get(max(matches, key=len)) if matches else None


def _is_a(name: str, family: str) -> bool:
    return name == family or name.startswith((f"{family}-", f"{family}:"))


def _scaled(width: int, height: int, factor: float) -> tuple[int, int]:
    return max(1, floor(width * factor)), max(1, floor(height * factor))


def _patches(width: int, height: int) -> int:
    patches = ceil(width / _PATCH) * ceil(height / _PATCH)
    if patches <= _MOST_PATCHES:
        return patches
    factor = sqrt(_PATCH**2 * _MOST_PATCHES / (width * height))
    wide, high = width * factor / _PATCH, height * factor / _PATCH
    # Once more, so that one of the sides is covered by whole patches.
    shrink = min(max(1, floor(wide)) / wide, max(1, floor(high)) / high)
    return min(ceil(wide * shrink) * ceil(high * shrink), _MOST_PATCHES)


def image_size(data: str | bytes) -> tuple[int, int] | None:
    """
    Return the width and height of an image; None when its header does not tell.

    Args:
        data: The file, its base64, or a data URL. PNG, JPEG, GIF and WebP are known.
    """
    if isinstance(data, str):
        try:
            data = base64.b64decode(data.partition(",")[2] if data[:5] == "data:" else data)
        except (binascii.Error, ValueError):
            return None
    for read in (_png, _gif, _webp, _jpeg):
        size = read(data)
        if size is not None:
            return size
    return None


def _png(data: bytes) -> tuple[int, int] | None:
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _gif(data: bytes) -> tuple[int, int] | None:
    if data[:6] not in (b"GIF87a", b"GIF89a") or len(data) < 10:
        return None
    return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")


def _webp(data: bytes) -> tuple[int, int] | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        return (
            int.from_bytes(data[24:27], "little") + 1,
            int.from_bytes(data[27:30], "little") + 1,
        )
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return (
        int.from_bytes(data[26:28], "little") & 0x3FFF,
        int.from_bytes(data[28:30], "little") & 0x3FFF,
    )


def _jpeg(data: bytes) -> tuple[int, int] | None:
    if data[:2] != b"\xff\xd8":
        return None
    for marker, segment in _jpeg_segments(data):
        # The frame headers, which are 0xC0 to 0xCF but for three tables among them.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(segment) >= 5:
            return int.from_bytes(segment[3:5], "big"), int.from_bytes(segment[1:3], "big")
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        yield data[position + 1], data[position + 4 : position + 2 + length]
        position += 2 + length
