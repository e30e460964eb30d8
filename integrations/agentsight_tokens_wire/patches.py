"""Patches: methods of an SDK's classes that are replaced, and how to take that back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Patches"]


class Patches:
    """What was replaced between a tap's first install and its last uninstall."""

    def __init__(self) -> None:
        self.is_on = True
        """Whether the replacements still do more than to pass calls on."""
        self._replaced: list[tuple[type[Any], str, Any, Any]] = []
        self._actions: list[Callable[[], None]] = []

    def replace(self, owner: type[Any], name: str, wrap: Callable[[Any], Any]) -> None:
        """Put a wrapper in the place of a class's own method."""
        original = vars(owner)[name]
        ours = wrap(original)
        setattr(owner, name, ours)
        self._replaced.append((owner, name, original, ours))

    def on_undo(self, action: Callable[[], None]) -> None:
        """Remember what else is to be done when everything is taken back."""
        self._actions.append(action)

    def undo(self) -> None:
        """Take everything back."""
        self.is_on = False
        while self._replaced:
            owner, name, original, ours = self._replaced.pop()
            # What others wrapped around it since stays; ours only passes calls on now.
            if vars(owner).get(name) is ours:
                setattr(owner, name, original)
        for action in self._actions:
            action()
