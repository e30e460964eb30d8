"""The names by which frameworks and conventions call the providers of the catalog."""

from __future__ import annotations

import re
from typing import Final

from .catalog import Catalog

__all__ = ["LOCAL", "prefixes_of", "provider_named"]

LOCAL: Final = frozenset(
    {"ollama", "ollama_chat", "lm_studio", "llama_cpp", "llamafile", "vllm", "gpt4all", "local"}
)
"""Servers on the user's own machines: their tokens cost nothing."""

_PREFIXES: Final[dict[str, tuple[str, ...]]] = {
    "openai": ("", "openai/"),
    "anthropic": ("", "anthropic/"),
    "azure": ("azure/", "azure_ai/"),
    "azure_ai": ("azure_ai/", "azure/"),
    "google": ("gemini/", ""),
    "vertex_ai": ("vertex_ai/", "", "gemini/", "vertex_ai/openai/"),
    "bedrock": ("", "bedrock/", "bedrock_mantle/"),
    "bedrock_mantle": ("bedrock_mantle/", "bedrock/", ""),
    "cohere": ("", "cohere/", "cohere_chat/"),
    "fireworks_ai": ("fireworks_ai/", "fireworks_ai/accounts/fireworks/models/"),
    "meta": ("meta/", "meta_llama/"),
    "moonshot": ("moonshot/", "moonshotai/"),
    "deepseek": ("deepseek/", ""),
    "zai": ("zai/", "bigmodel/"),
    "ai21": ("", "ai21/"),
    "jina_ai": ("jina_ai/", ""),
}
"""Where the catalog keeps a provider's models; `name/` for all that are not listed."""

_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "openai": ("openai", "openaichat", "openairesponses", "chatopenai", "openaiembeddings"),
    "anthropic": ("anthropic", "chatanthropic"),
    "azure": ("azure", "azureopenai", "azureaiopenai", "azurechatopenai", "microsoftazure"),
    "azure_ai": ("azureai", "azureaiinference", "azureaifoundry", "azurefoundry"),
    "google": (
        "google",
        "gemini",
        "googlegenai",
        "googlegla",
        "googleai",
        "googleaistudio",
        "googlegenerativeai",
        "gcpgemini",
        "gcpgenai",
    ),
    "vertex_ai": (
        "vertexai",
        "vertex",
        "vertexaibeta",
        "googlevertexai",
        "googlevertex",
        "googlecloud",
        "gcpvertexai",
        "googleanthropicvertex",
    ),
    "bedrock": (
        "bedrock",
        "bedrockconverse",
        "aws",
        "awsbedrock",
        "amazon",
        "amazonbedrock",
        "anthropicbedrock",
    ),
    "bedrock_mantle": ("bedrockmantle",),
    "xai": ("xai",),
    "mistral": ("mistral", "mistralai"),
    "cohere": ("cohere", "coherechat"),
    "fireworks_ai": ("fireworks", "fireworksai"),
    "together_ai": ("together", "togetherai"),
    "deepseek": ("deepseek",),
    "perplexity": ("perplexity", "perplexityai"),
    "moonshot": ("moonshot", "moonshotai"),
    "zai": ("zai",),
    "bigmodel": ("zhipuai", "bigmodel"),
    "dashscope": ("dashscope", "alibaba", "alibabacloud", "tongyi"),
    "voyage": ("voyage", "voyageai"),
    "nvidia_nim": ("nvidia", "nvidianim", "nvidiaaiendpoints"),
    "watsonx": ("watsonx", "ibm", "watsonxai", "ibmwatsonxai"),
    "github_copilot": ("githubcopilot",),
    "chatgpt": ("chatgpt",),
    "microsoft_365_copilot": ("microsoft365copilot",),
    "vercel_ai_gateway": ("vercel", "vercelaigateway"),
    "lambda_ai": ("lambda", "lambdaai"),
    "cloudflare": ("cloudflare", "cloudflareworkersai", "workersai"),
    "meta": ("meta", "metallama"),
    "ai21": ("ai21", "ai21labs"),
    "jina_ai": ("jina", "jinaai"),
    "heroku": ("heroku",),
    "crusoe": ("crusoe",),
    "snowflake": ("snowflake", "snowflakecortex"),
    "ollama": ("ollama", "ollamachat", "chatollama"),
    "lm_studio": ("lmstudio",),
    "llama_cpp": ("llamacpp", "llamacpppython"),
    "llamafile": ("llamafile",),
    "vllm": ("vllm", "hostedvllm"),
    "gpt4all": ("gpt4all",),
    "local": ("local",),
}
_PROVIDER_OF: Final = {name: provider for provider, names in _NAMES.items() for name in names}
_NO_LETTER: Final = re.compile(r"[^a-z0-9]")


def provider_named(catalog: Catalog, name: str) -> str | None:
    """Return the catalog's provider of a name; None for one that it does not know."""
    squashed = _NO_LETTER.sub("", name.lower())
    found = _PROVIDER_OF.get(squashed)
    if found is not None:
        return found
    plain = name.lower().replace("-", "_").replace(".", "_")
    if plain and any(True for _ in catalog.starting_with(f"{plain}/")):
        return plain
    return None


def prefixes_of(provider: str, region: str | None = None) -> tuple[str, ...]:
    """Return the beginnings of the keys of a provider's models, the likeliest first."""
    prefixes = _PREFIXES.get(provider, (f"{provider}/",))
    if region is None or provider not in ("azure", "bedrock"):
        return prefixes
    return (f"{provider}/{region}/", *prefixes)
