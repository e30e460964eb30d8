"""Stores of cycles and calls."""

from .base import DEFAULT_PROJECT_ID, ProjectReader, Reader, Store, Transaction
from .opening import open_store
from .sqlite import SQLiteStore

__all__ = [
    "DEFAULT_PROJECT_ID",
    "ProjectReader",
    "Reader",
    "SQLiteStore",
    "Store",
    "Transaction",
    "open_store",
]
