"""`demo`: three conversations by two users, counted, sent, stored and held against the bill."""

from .command import demo

__all__ = ["demo"]
