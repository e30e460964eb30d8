"""Names: every spelling in use leads to the right price, and to no other."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

import pytest

from agentsight_tokens.pricing import CostEstimator

NAMES_IN_USE = Path(__file__).parent / "recorded" / "model_names.tsv"
"""The model names of pydantic-ai 2.68 (KnownModelName), of the profiles of ten LangChain
integrations and its OpenAI callback, and of LlamaIndex's tables, with the provider that the
framework reports; read on 2026-11-22."""

VARIANT = re.compile(
    r"\b(?:mini|nano|lite|flash|pro|turbo|opus|sonnet|haiku|large|small|medium|micro|premier|tiny"
    r"|audio|realtime|image|tts|codex|embedding|embed|instruct|vision|search|thinking|reasoning"
    r"|maverick|scout|coder|code|oss|guard|safeguard|plus|max|ultra|live|computer|deep|research"
    r"|multi|agent|fast|fable|mythos|luna|sol|terra|astra)\b"
)


@pytest.fixture(scope="module")
def estimator() -> CostEstimator:
    return CostEstimator()


def names_in_use() -> list[tuple[str, str, str]]:
    lines = NAMES_IN_USE.read_text().splitlines()[1:]
    return [(*line.split("\t"),) for line in lines]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "provider", "key", "how"),
    [
        ("gpt-4o", None, "gpt-4o", "exact"),
        ("openai/gpt-4o", None, "gpt-4o", "exact"),
        ("openai:gpt-4o", None, "gpt-4o", "exact"),
        ("gateway/openai:gpt-5", None, "gpt-5", "exact"),
        ("GPT-4O", None, "gpt-4o", "alias"),
        ("models/gemini-2.5-pro", None, "gemini-2.5-pro", "alias"),
        ("models/gemini-2.5-pro", "google_genai", "gemini/gemini-2.5-pro", "alias"),
        ("publishers/google/models/gemini-2.5-pro", "gcp.vertex_ai", "gemini-2.5-pro", "alias"),
        ("claude-3-5-sonnet-latest", None, "claude-3-5-sonnet-latest", "exact"),
        ("claude-3-5-sonnet", None, "claude-3-5-sonnet-20241022", "alias"),
        ("claude-3-opus", None, "claude-3-opus-20240229", "alias"),
        ("claude-3-haiku-latest", None, "claude-3-haiku-20240307", "dated"),
        ("claude-sonnet-4.5", None, "claude-sonnet-4-5", "alias"),
        ("claude-4-5-sonnet", None, "claude-sonnet-4-5", "alias"),
        ("anthropic/claude-sonnet-4.5", None, "claude-sonnet-4-5", "alias"),
        ("claude-3-5-sonnet@20240620", "google_vertexai", "vertex_ai/claude-3-5-sonnet@20240620", "exact"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", None, "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "exact"),
        ("anthropic.claude-opus-4-6-v1:0", "aws.bedrock", "anthropic.claude-opus-4-6-v1", "alias"),
        ("arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-5-sonnet-20240620-v1:0", "bedrock", "anthropic.claude-3-5-sonnet-20240620-v1:0", "alias"),
        ("arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-5-20250929-v1:0", None, "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", "alias"),
        ("ca.amazon.nova-lite-v1:0", "amazon_bedrock", "amazon.nova-lite-v1:0", "base"),
        ("gpt-4o", "azure.ai.openai", "azure/gpt-4o", "exact"),
        ("gpt-35-turbo", "openai", "gpt-3.5-turbo", "alias"),
        ("gpt-35-turbo", "azure", "azure/gpt-35-turbo", "exact"),
        ("gpt-4o-audio", None, "gpt-4o-audio-preview", "dated"),
        ("ft:gpt-4o-mini:acme::id", None, "ft:gpt-4o-mini", "alias"),
        ("ft:gpt-4o-mini-2024-07-18:acme::id", None, "ft:gpt-4o-mini-2024-07-18", "alias"),
        ("ft:gpt-4o-mini-2099-01-01:acme::id", None, "ft:gpt-4o-mini", "base"),
        ("openai/ft:gpt-4o-mini-2024-07-18:acme::id", None, "ft:gpt-4o-mini-2024-07-18", "alias"),
        ("anthropic/claude-sonnet-4.5", "openrouter", "openrouter/anthropic/claude-sonnet-4.5", "exact"),
        ("grok-4.20", None, "xai/grok-4.20", "exact"),
        ("grok-4.20", "x_ai", "xai/grok-4.20", "exact"),
        ("mistral-large", None, "mistral/mistral-large-latest", "alias"),
        ("llama-3.3-70b-versatile", "groq", "groq/llama-3.3-70b-versatile", "exact"),
        ("gpt-4o", "my-own-gateway", "gpt-4o", "exact"),
        ("claude-opus-4-8", "snowflake", "claude-opus-4-8", "base"),
        ("llama3.9:8b", "ollama", "local/*", "alias"),
        ("ollama/llama3", None, "ollama/llama3", "exact"),
        ("llama3", "ollama", "ollama/llama3", "exact"),
        ("ft:gpt-4.1:acme::id", None, "ft:gpt-4.1-2025-04-14", "dated"),
        ("mistral-large-2407-latest", "mistral", "mistral/mistral-large-2407", "dated"),
        ("mistral-large-2512-01-01-latest", "mistral", "mistral/mistral-large-2512", "base"),
        ("magistral-medium-2511-latest", "mistral", "mistral/magistral-medium", "base"),
        # A date that nobody knows leads to the family and no further.
        ("gpt-4o-mini-2099-01-01", None, "gpt-4o-mini", "base"),
        ("gpt-4o-2099-01-01", None, "gpt-4o", "base"),
        ("gpt-4.1-nano-2099-01-01", None, "gpt-4.1-nano", "base"),
        ("o3-mini-2099-01-01", None, "o3-mini", "base"),
        ("claude-sonnet-4-5-20991231", None, "claude-sonnet-4-5", "base"),
        ("gemini-2.5-flash-lite-preview-09-2099", None, "gemini-2.5-flash-lite-preview-09-2025", "base"),
        ("gpt-4o-realtime-preview-2099-01-01", None, "gpt-4o-realtime-preview", "base"),
        ("mistral-large-2699", "mistral", None, None),
    ],
)  # fmt: skip
def test_a_name_leads_to_its_key(
    estimator: CostEstimator, name: str, provider: str | None, key: str | None, how: str | None
) -> None:
    """A name, with or without its provider, is matched as it should be."""
    match = estimator.match(name, provider=provider)

    assert (match and match.entry.key, match and match.how) == (key, how)


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("azure/my-deployment", None),
        ("my-deployment", "azure"),
        ("claude-foo-9", None),
        ("gpt-4oo", None),
        ("gpt-4o-mini-super", None),
        ("gpt", None),
        ("claude", None),
        ("ft:gpt-9:acme::id", None),
        ("ft:gpt-9-2099-01-01:acme::id", None),
        ("gpt-oss:120b-cloud", "ollama"),
        ("gpt-6-sol", "chatgpt"),
        ("some-model", "my-own-gateway"),
        ("openrouter/openrouter/auto", None),
        ("fireworks-ai-default", None),
        (" ", None),
    ],
)
def test_what_is_not_known_has_no_price(
    estimator: CostEstimator, name: str, provider: str | None
) -> None:
    """A deployment, an invented name and a row of zeros that means nothing stay unpriced."""
    assert estimator.match(name, provider=provider) is None


@pytest.mark.parametrize(
    "name", ["a." * 500 + "!", "us." * 300, "a-1-2-" * 150, "-2024-01-01" * 80, "x" * 1000]
)
def test_a_name_that_nobody_gives_takes_no_long_search(estimator: CostEstimator, name: str) -> None:
    """A hostile name is refused quickly: no search grows with its length."""
    began = time.process_time()

    assert estimator.match(name, provider="openrouter") is None
    assert time.process_time() - began < 1


def test_names_in_use_resolve(estimator: CostEstimator) -> None:
    """At least 92 % of the names that the frameworks know lead to a price."""
    names = names_in_use()

    found = Counter(
        framework
        for framework, provider, name in names
        if estimator.match(name, provider=provider or None) is not None
    )

    assert len(names) > 859
    assert sum(found.values()) / len(names) >= 0.92


def test_no_name_in_use_leads_to_another_family(estimator: CostEstimator) -> None:
    """A name and the key that it leads to speak of the same variant and version."""
    strangers = [
        (name, match.entry.key)
        for _, provider, name in names_in_use()
        if (match := estimator.match(name, provider=provider or None)) is not None
        and match.how in ("alias", "dated", "base")
        and match.entry.key != "local/*"
        and variant_of(name) != variant_of(match.entry.key)
    ]

    assert strangers == []


def test_a_name_in_use_is_never_free_by_accident(estimator: CostEstimator) -> None:
    """What costs nothing does so by a row that says so: experimental or free models."""
    free = {
        match.entry.key
        for _, provider, name in names_in_use()
        if (match := estimator.match(name, provider=provider or None)) is not None
        and not any(rate for row in match.entry.rows for rate in row.usd.values())
        and not any(row.call_usd for row in match.entry.rows)
    }

    assert free == {
        "gemini/gemini-2.0-flash-thinking-exp-01-21",
        "gemini/gemini-2.0-pro-exp-02-05",
        "gemini/gemma-4-26b-a4b-it",
        "gemini/gemma-4-31b-it",
        "zai/glm-4.7-flash",
    }


def variant_of(name: str) -> tuple[frozenset[str], str]:
    """Return the words that tell a model from its siblings, and its version."""
    bare = name.lower().rpartition("/")[2].rpartition(":ft")[0] or name.lower()
    bare = re.sub(r"[-@.](?:20\d{6}|20\d\d-\d\d-\d\d|\d\d-20\d\d|\d{4}|\d{3})\b", "", bare)
    words = re.findall(r"[a-z]+|\d+", bare.replace("35", "3.5"))
    numbers = [word for word in words if word.isdigit() and len(word) < 3]
    return frozenset(VARIANT.findall(" ".join(words))), numbers[0] if numbers else ""
