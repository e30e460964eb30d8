"""What of LiteLLM is replaced once the program imports it, and how to take that back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentsight_tokens_wire import patches

__all__ = ["Patches"]


class Patches(patches.Patches):
    """What one install replaced. A name that a version of LiteLLM lacks is left alone."""

    def replace(self, owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
        """Put a wrapper in the place of a class's own method or a module's function, if there."""
        if vars(owner).get(name) is not None:
            super().replace(owner, name, wrap)

    def add(self, owner: type[Any], name: str, wrap: Callable[[Any], Any]) -> None:
        """Give a class a method, which passes on to the one that it has or inherits."""
        if name in vars(owner):
            self.replace(owner, name, wrap)
            return
        ours = wrap(getattr(owner, name, None))
        setattr(owner, name, ours)

        def remove() -> None:
            if vars(owner).get(name) is ours:
                delattr(owner, name)

        self.on_undo(remove)
