"""Stores of cycles and calls."""

from .sqlite import SQLiteStore

__all__ = ["SQLiteStore"]
