"""Where the sender delivers."""

from .base import Destination, Outcome

__all__ = ["Destination", "Outcome"]
