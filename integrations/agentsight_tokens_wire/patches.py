"""Methods of other packages that are replaced once the program imports their module."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import wrapt

from agentsight_tokens.faults import contained

__all__ = ["Patches"]


class Patches:
    """What one install replaced, and how to take it back."""

    def __init__(self) -> None:
        self.is_on = True
        """Whether the replacements still do more than to pass calls on."""
        self._undo: list[Callable[[], None]] = []

    def after_import(self, module: str, hook: Callable[[ModuleType], None]) -> None:
        """Run a hook when a module is imported, or now if it was; a hook cannot be taken back."""

        def run(imported: ModuleType) -> None:
            with contained(f"patching {module}"):
                if self.is_on:
                    hook(imported)

        wrapt.register_post_import_hook(run, module)

    def replace(self, owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
        """Put a wrapper in the place of a class's own method or a module's function."""
        original = vars(owner)[name]
        ours = wrap(original)
        setattr(owner, name, ours)

        def restore() -> None:
            # What others wrapped around it since stays; ours only passes calls on now.
            if vars(owner).get(name) is ours:
                setattr(owner, name, original)

        self._undo.append(restore)

    def on_undo(self, action: Callable[[], None]) -> None:
        """Remember what else is to be done when everything is taken back."""
        self._undo.append(action)

    def undo(self) -> None:
        """Take everything back, the latest first."""
        self.is_on = False
        while self._undo:
            self._undo.pop()()
