"""TokenCounter: how many tokens a text or a list of messages has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from agentsight_tokens.errors import EncodingUnavailableError, EstimatedCountWarning
from agentsight_tokens.faults import warn

from .encodings import encoding_of_model, known_encodings, load_encoding, load_tokenizer
from .images import image_size, image_tokens, largest_image_tokens
from .messages import Image, Part, Uncounted, message_parts, parts_of, tool_tokens

__all__ = ["TokenCounter"]

_PER_MESSAGE: Final = 3
_PER_NAME: Final = 1
_REPLY: Final = 3

_warned: Final[set[str]] = set()


class _Resolved(NamedTuple):
    """The way in which a counter counts."""

    length: Callable[[str], int]
    is_estimate: bool


class TokenCounter:
    """
    Counts tokens by a model's own tokenizer, offline.

    Args:
        encoding: The encoding to count by when the model names none.
        model: The model to count for; its tokenizer wins over `encoding`.
        allow_download: Whether a tokenizer that is not on this machine may be fetched.
        fallback: `bytes` counts the bytes of the text where the encoding is not on this
            machine: an upper bound, because every token stands for one byte at least.
        cache_dir: Where to look first for the files of encodings.

    Raises:
        ValueError: If the fallback is none that is known.
    """

    def __init__(
        self,
        encoding: str = "cl100k_base",
        *,
        model: str | None = None,
        allow_download: bool = False,
        fallback: Literal["bytes"] | None = None,
        cache_dir: str | Path | None = None,
    ) -> None:
        if fallback not in (None, "bytes"):
            raise ValueError(f"fallback is 'bytes' or None, not {fallback!r}")
        self._given_encoding = encoding
        self._allow_download = allow_download
        self._fallback = fallback
        self._cache_dir = cache_dir
        self.model = model

    def __repr__(self) -> str:
        return f"TokenCounter({self._given_encoding!r}, model={self.model!r})"

    @cached_property
    def encoding(self) -> str:
        """The name of the encoding: the model's, else the one that was given."""
        known = encoding_of_model(self.model) if self.model else None
        return known or self._given_encoding

    @property
    def is_estimate(self) -> bool:
        """
        Whether the counts are estimates: no tokenizer of the model is at hand.

        Raises:
            EncodingUnavailableError: If there is nothing to count by.
        """
        return self._resolved.is_estimate

    def count(self, text: str | Iterable[Any] | None) -> int:
        """
        Return the tokens of a text.

        Args:
            text: A text, the list content of a message, or a list of messages. Special tokens
                within it are counted as the text that they are.

        Raises:
            EncodingUnavailableError: If there is nothing to count by.
            TypeError: If it is neither text nor a list.
        """
        if text is None:
            return 0
        if isinstance(text, str):
            return self._resolved.length(text)
        parts = [text] if isinstance(text, Mapping) else list(text)
        if parts and any(_is_message(part) for part in parts):
            return self.count_messages(parts)
        return sum(self._part(part) for part in parts_of(parts))

    def count_messages(self, messages: Iterable[Any], *, tools: Iterable[Any] | None = None) -> int:
        """
        Return the tokens of a prompt, by OpenAI's documented formula.

        Every message takes 3 tokens besides its fields and a name one more; the reply that it
        is primed with takes 3. Tool definitions and images follow the documented rules. What a
        tool call takes is not documented: its name and arguments are counted.

        https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken, checked 2026-11-22.

        Args:
            messages: Dicts, an SDK's objects or LangChain messages.
            tools: The tools' definitions that go with them.

        Raises:
            EncodingUnavailableError: If there is nothing to count by.
            TypeError: If one is no message.
        """
        total = _REPLY
        for message in messages:
            total += _PER_MESSAGE
            for name, part in message_parts(message):
                total += self._part(part) + (_PER_NAME if name == "name" else 0)
        return total + tool_tokens(tools or (), self.encoding, self.count)

    def count_with_margin(self, text: str | Iterable[Any] | None, *, margin: float = 0.1) -> int:
        """
        Return the tokens of a text and a margin on them.

        Args:
            text: As `count` takes it.
            margin: The part of the count that is added, rounded down.

        Raises:
            ValueError: If the margin is negative.
        """
        if not margin >= 0:
            raise ValueError(f"the margin must not be negative, not {margin!r}")
        counted = self.count(text)
        return counted + int(counted * margin)

    def fits_context(
        self, text: str | Iterable[Any] | None, max_tokens: int, *, margin: float = 0.1
    ) -> bool:
        """Return whether a text and the margin on it have at most so many tokens."""
        return self.count_with_margin(text, margin=margin) <= max_tokens

    @cached_property
    def _resolved(self) -> _Resolved:
        is_known = self.model is None or encoding_of_model(self.model) is not None
        if self.model is not None and not is_known:
            own = load_tokenizer(self.model, allow_download=self._allow_download)
            if own is not None:
                return _Resolved(own, is_estimate=False)
            _warn(
                f"no tokenizer of {self.model!r} is at hand: its counts are estimates by "
                f"{self.encoding}. For a model on the Hugging Face Hub "
                "pip install 'agentsight-tokens[tokenizers]' and pass allow_download=True once"
            )
        try:
            encoding = load_encoding(
                self.encoding, cache_dir=self._cache_dir, allow_download=self._allow_download
            )
        except EncodingUnavailableError:
            if self._fallback is None or self.encoding not in known_encodings():
                raise
            _warn(
                f"the encoding {self.encoding!r} is not on this machine: "
                "counts are the bytes of the text, which is an upper bound"
            )
            return _Resolved(_byte_length, is_estimate=True)
        return _Resolved(lambda text: len(encoding.encode_ordinary(text)), is_estimate=not is_known)

    def _part(self, part: Part) -> int:
        if isinstance(part, str):
            return self._resolved.length(part)
        if isinstance(part, Uncounted):
            _warn(f"a part of the type {part.kind!r} is counted as 0: no rule for it is documented")
            return 0
        size = None if _is_elsewhere(part) else image_size(part.data)
        if size is None:
            _warn("an image whose size is not known is counted as the largest one")
            return largest_image_tokens(model=self.model, detail=part.detail)
        return image_tokens(*size, model=self.model, detail=part.detail)


def _is_message(part: Any) -> bool:
    if isinstance(part, Mapping):
        return "role" in part
    return hasattr(part, "role") or hasattr(part, "content")


def _is_elsewhere(image: Image) -> bool:
    return image.data.startswith(("http://", "https://", "gs://", "s3://", "file:"))


def _byte_length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _warn(message: str) -> None:
    """Give a warning once in the life of the process."""
    if message not in _warned:
        _warned.add(message)
        warn(message, EstimatedCountWarning, levels=5)
