"""What `doctor` says of one subject."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = ["Finding", "State"]

State = Literal["ok", "off", "note", "broken"]
"""`off`: it could work and is not switched on. `note`: it works, but read this."""


class Finding(msgspec.Struct, frozen=True):
    """What was found of one subject."""

    subject: str
    state: State
    text: str
    advice: str | None = None
    """What to do about it."""
    facts: dict[str, Any] = {}
    """The same for programs."""
