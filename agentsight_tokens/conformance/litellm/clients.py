"""LiteLLM's calls of the loopback provider, and frameworks above it."""

from __future__ import annotations

import importlib
import os
from typing import Any

from agentsight_tokens.conformance.clients import Clients

__all__ = ["D", "LiteLLMClients", "litellm", "said"]

# Else importing it asks the network for prices.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # noqa: TID251  # not a reading
litellm: Any = importlib.import_module("litellm")  # its types change from version to version
litellm.suppress_debug_info = True  # printed on stdout, where a program's own output goes

D = "hi [[in=101 out=7 cached=40 reasoning=2]]"
"""A prompt that bills 101 tokens, 40 of them cached, and 7 out, 2 of them reasoning."""


class LiteLLMClients(Clients):
    """
    Makes calls as a program does.

    What is not installed raises `ModuleNotFoundError`, which skips the scenario.
    """

    def options(self, text: str = D, **options: Any) -> dict[str, Any]:
        """Return the arguments of a call."""
        return {
            "model": "openai/gpt-4o-mini",
            "api_base": self.provider.openai_url,
            "api_key": "k",
            "messages": said(text),
            "num_retries": 0,
            "max_retries": 0,
            **options,
        }

    def complete(self, text: str = D, **options: Any) -> Any:
        """Call, and wait for the answer."""
        return litellm.completion(**self.options(text, **options))

    async def acomplete(self, text: str = D, **options: Any) -> Any:
        """Call, and wait for the answer."""
        return await litellm.acompletion(**self.options(text, **options))

    def router(self, *models: str, **options: Any) -> Any:
        """Return a router among deployments of models, each the fallback of the one before."""
        deployments = [
            {
                "model_name": model,
                "litellm_params": {
                    "model": f"openai/{model}",
                    "api_base": self.provider.openai_url,
                    "api_key": "k",
                    "max_retries": 0,
                },
            }
            for model in models
        ]
        fallbacks = [{models[i]: [models[i + 1]]} for i in range(len(models) - 1)]
        options = {"num_retries": 0, "fallbacks": fallbacks, **options}
        return litellm.Router(model_list=deployments, **options)

    def langchain(self, **options: Any) -> Any:
        """Return LangChain's chat model above LiteLLM."""
        made = importlib.import_module("langchain_litellm").ChatLiteLLM
        return made(**self._above(options))

    def llamaindex(self, **options: Any) -> Any:
        """Return LlamaIndex's model above LiteLLM."""
        made = importlib.import_module("llama_index.llms.litellm").LiteLLM
        return made(**self._above(options))

    def _above(self, options: dict[str, Any]) -> dict[str, Any]:
        base = {"api_base": self.provider.openai_url, "api_key": "k", "max_retries": 0}
        return {"model": "openai/gpt-4o-mini", **base, **options}


def said(text: str) -> list[dict[str, str]]:
    """Return a text as the messages of a chat."""
    return [{"role": "user", "content": text}]
