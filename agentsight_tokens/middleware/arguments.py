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
_SAID: Final = (str, list, tuple)


class CallArguments:
    """
    The arguments of one call of a function, by name.

    Args:
        signature: The function's signature; None if it has none that can be read.
        args: The positional arguments.
        kwargs: The named arguments.
        prompt_name: The parameter that holds the prompt, where its name does not tell.
        output_name: The parameter that limits the output, where its name does not tell.
    """

    def __init__(
        self,
        signature: inspect.Signature | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        prompt_name: str | None = None,
        output_name: str | None = None,
    ) -> None:
        self.args = args
        self.kwargs = kwargs
        self._names = _positional_names(signature, len(args))
        self._defaults = _defaults(signature)
        self._prompt_name = prompt_name or self._find(_PROMPTS, _SAID) or self._first_text()
        self._model_name = self._find(_MODELS, str)
        limits = (n for n in _MOST_OUTPUT if n in self._defaults)
        self._output_name = output_name or self._find(_MOST_OUTPUT, int) or next(limits, None)

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
        model: str | None = self._get(self._model_name)
        return model

    @property
    def max_output_tokens(self) -> int | None:
        """The largest output that the call allows."""
        most = self._get(self._output_name)
        return most if isinstance(most, int) else None

    @property
    def temperature(self) -> float | None:
        """The temperature that is asked for."""
        temperature: float | None = self._get(self._find(("temperature",), (int, float)))
        return temperature

    @property
    def choices(self) -> int:
        """How many outputs are asked for."""
        asked: int | None = self._get(self._find(("n",), int))
        return max(asked or 1, 1)

    @property
    def tools(self) -> list[Any]:
        """The definitions of tools."""
        tools = self.kwargs.get("tools")
        return list(tools) if isinstance(tools, (list, tuple)) else []

    @property
    def limits_output(self) -> bool:
        """Whether the largest output can be set."""
        return self._output_name is not None

    def set_prompt(self, prompt: Any) -> None:
        """Replace the prompt."""
        self._set(self._prompt_name, prompt)

    def set_model(self, model: str) -> None:
        """Replace the model; a call that names none is left as it is."""
        self._set(self._model_name, model)

    def set_max_output_tokens(self, most: int) -> None:
        """Set the largest output."""
        self._set(self._output_name, most)

    def _find(self, names: tuple[str, ...], kinds: type | tuple[type, ...]) -> str | None:
        """Return the first of the names with a value of a kind; SDKs mark what is not given."""
        return next((name for name in names if isinstance(self._get(name), kinds)), None)

    def _first_text(self) -> str | None:
        for position, value in enumerate(self.args):
            if isinstance(value, _SAID) and value:
                return self._names[position]
        return None

    def _get(self, name: str | None) -> Any:
        if name is None:
            return None
        if name in self.kwargs:
            return self.kwargs[name]
        if name in self._names:
            return self.args[self._names.index(name)]
        return self._defaults.get(name)

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


def _defaults(signature: inspect.Signature | None) -> dict[str, Any]:
    """Return the parameters of a function with their defaults, None where there is none."""
    if signature is None:
        return {}
    nothing = inspect.Parameter.empty
    return {
        name: None if parameter.default is nothing else parameter.default
        for name, parameter in signature.parameters.items()
    }


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature of a function; None if it has none that can be read."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None
