"""What LangChain's context knows of the code that runs now."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any
from uuid import UUID

__all__ = ["config_in_force", "run_in_force"]


def config_in_force() -> Mapping[str, Any]:
    """Return the configuration of the chain or tool inside which this runs."""
    # Not imported: this package is loaded in the midst of the imports that LangChain does.
    module = sys.modules.get("langchain_core.runnables.config")
    config = module.var_child_runnable_config.get() if module is not None else None
    return config or {}


def run_in_force(config: Mapping[str, Any] | None = None) -> UUID | None:
    """Return the run of the chain or tool inside which this runs."""
    callbacks = (config_in_force() if config is None else config).get("callbacks")
    return getattr(callbacks, "parent_run_id", None)
