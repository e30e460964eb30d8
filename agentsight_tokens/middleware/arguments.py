"""The arguments of a call: where its prompt, model and largest output stand."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["CallArguments", "signature_of"]

_PROMPTS: Final = (
    "messages",
    "prompt",
    "prompts",
    "input",
    "inputs",
    "contents",
    "query",
    "question",
    "text",
    "texts",
)
_MODELS: Final = ("model", "model_name", "model_id")
_MOST_OUTPUT: Final = (
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens",
    "max_tokens_to_sample",
)
_CHOICES: Final = ("n",)


class CallArguments:
    """
    The arguments of one call of a function, by name.

    Args:
        signature: The function's signature; None if it has none that can be read.
        args: The positional arguments.
        kwargs: The named arguments.
        prompt_name: The parameter that holds the prompt, where its name does not tell.
    """

    def __init__(
        self,
        signature: inspect.Signature | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        prompt_name: str | None = None,
    ) -> None:
        self.args = args
        self.kwargs = kwargs
        self._names = _positional_names(signature, len(args))
        self._known: set[str] = set(signature.parameters) if signature else set()
        self._prompt_name = self._find(prompt_name, _PROMPTS) or self._first_text()
        self._model_name = self._find(None, _MODELS)
        self._output_name = self._find(None, _MOST_OUTPUT)

    @property
    def prompt(self) -> Any:
        """The messages or text; None if there is none."""
        return self._get(self._prompt_name)

    @property
    def messages(self) -> list[Any] | None:
        """The prompt, if it is a list of messages."""
        prompt = self.prompt
        if not isinstance(prompt, (list, tuple)) or not prompt:
            return None
        is_messages = all(
            (isinstance(m, Mapping) and ("role" in m or "type" in m))
            or (not isinstance(m, (str, int)) and hasattr(m, "content"))
            for m in prompt
        )
        return list(prompt) if is_messages else None

    @property
    def model(self) -> str | None:
        """The model that is asked for."""
        model = self._get(self._model_name)
        return model if isinstance(model, str) else None

    @property
    def max_output_tokens(self) -> int | None:
        """The largest output that the call allows."""
        most = self._get(self._output_name)
        return most if isinstance(most, int) and not isinstance(most, bool) else None

    @property
    def choices(self) -> int:
        """How many outputs are asked for."""
        asked = self._get(self._find(None, _CHOICES))
        return asked if isinstance(asked, int) and asked > 0 else 1

    @property
    def tools(self) -> list[Any]:
        """The definitions of tools."""
        tools = self.kwargs.get("tools")
        return list(tools) if isinstance(tools, (list, tuple)) else []

    @property
    def limits_output(self) -> bool:
        """Whether the largest output can be set."""
        return self._output_name is not None or bool(self._known & {*_MOST_OUTPUT})

    def set_prompt(self, prompt: Any) -> None:
        """Replace the prompt."""
        self._set(self._prompt_name, prompt)

    def set_model(self, model: str) -> None:
        """Replace the model; a call that names none is left as it is."""
        self._set(self._model_name, model)

    def set_max_output_tokens(self, most: int) -> None:
        """Set the largest output."""
        name = self._output_name or next((n for n in _MOST_OUTPUT if n in self._known), None)
        self._set(name, most)

    def _find(self, name: str | None, usual: tuple[str, ...]) -> str | None:
        if name is not None:
            return name
        there = {*self.kwargs, *self._names}
        return next((n for n in usual if n in there and self._get(n) is not None), None)

    def _first_text(self) -> str | None:
        for position, value in enumerate(self.args):
            if isinstance(value, (str, list, tuple)) and value:
                return self._names[position]
        return None

    def _get(self, name: str | None) -> Any:
        if name is None:
            return None
        if name in self.kwargs:
            return self.kwargs[name]
        return self.args[self._names.index(name)] if name in self._names else None

    def _set(self, name: str | None, value: Any) -> None:
        if name is None:
            return
        if name in self._names:
            position = self._names.index(name)
            self.args = (*self.args[:position], value, *self.args[position + 1 :])
        else:
            self.kwargs = {**self.kwargs, name: value}


def _positional_names(signature: inspect.Signature | None, count: int) -> list[str]:
    """Return the names of positional arguments; those without one get their number."""
    names = [f"*{position}" for position in range(count)]
    if signature is not None:
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        known = [p.name for p in signature.parameters.values() if p.kind in kinds]
        names[: len(known)] = known[:count]
    return names


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature of a function; None if it has none that can be read."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None
