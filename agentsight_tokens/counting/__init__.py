"""
Counting tokens without asking a provider.

Nothing is downloaded unless that is asked for, and tiktoken is imported with the first count.
"""

from __future__ import annotations

from .counter import TokenCounter
from .encodings import encoding_of_model, load_encoding
from .images import image_tokens

__all__ = ["TokenCounter", "encoding_of_model", "image_tokens", "load_encoding"]
