"""The server's log: one JSON object a line, on stderr."""

from __future__ import annotations

import logging
import sys
from datetime import datetime, timezone
from typing import Any, Final

import msgspec

__all__ = ["JSONFormatter", "write_logs"]

_OURS: Final = "agentsight_tokens"


class JSONFormatter(logging.Formatter):
    """Writes a log record as one line of JSON; `extra={"facts": ...}` adds fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, timezone.utc),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def write_logs(level: str | None) -> None:
    """
    Write what the server has to say.

    Args:
        level: What is written of our own; INFO, which has a line for each request, if None.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter())
    logging.captureWarnings(capture=True)
    # What the pool of connections cannot do, the store's own errors tell.
    levels = {
        _OURS: level or "INFO",
        "py.warnings": "WARNING",
        "uvicorn": "WARNING",
        "psycopg": "CRITICAL",
    }
    for name, its_level in levels.items():
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(its_level)
        logger.propagate = False
