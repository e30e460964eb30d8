"""
From a provider's response to its usage.

Every function is pure, takes the SDK's object, a dict or decoded JSON, and imports no SDK.
`<provider>(response)` returns an `Extracted`, `<provider>_usage(usage)` a `TokenUsage` of the
response's usage object alone, and `extract_usage` finds the right one by the shape.

The pages that the docstrings name were checked in copies and against the types of openai 2.54,
anthropic 2.12, google-genai 3.4, botocore 1.44, mistralai 3.7, cohere 7.3, groq 1.7,
together 3.1, ollama 0.6 and xai-sdk 1.21.
"""

from __future__ import annotations

from .chat_format import deepseek, groq, mistral, perplexity, together, vllm, xai
from .from_anthropic import anthropic_message, anthropic_usage
from .from_bedrock import bedrock_converse, bedrock_invoke_model, bedrock_usage
from .from_cohere import cohere, cohere_usage
from .from_compatible import (
    deepseek_usage,
    groq_usage,
    mistral_usage,
    perplexity_usage,
    together_usage,
    vllm_usage,
    xai_usage,
)
from .from_frameworks import langchain_usage
from .from_google import gemini, gemini_usage, vertex
from .from_langfuse import langfuse_usage
from .from_ollama import ollama, ollama_usage
from .from_openai import (
    openai_chat,
    openai_completion,
    openai_embedding,
    openai_embedding_usage,
    openai_media,
    openai_responses,
    openai_usage,
)
from .reading import Extracted
from .recognition import KNOWN_SHAPES, PROVIDER_NAMES, extract_usage

__all__ = [
    "KNOWN_SHAPES",
    "PROVIDER_NAMES",
    "Extracted",
    "anthropic_message",
    "anthropic_usage",
    "bedrock_converse",
    "bedrock_invoke_model",
    "bedrock_usage",
    "cohere",
    "cohere_usage",
    "deepseek",
    "deepseek_usage",
    "extract_usage",
    "gemini",
    "gemini_usage",
    "groq",
    "groq_usage",
    "langchain_usage",
    "langfuse_usage",
    "mistral",
    "mistral_usage",
    "ollama",
    "ollama_usage",
    "openai_chat",
    "openai_completion",
    "openai_embedding",
    "openai_embedding_usage",
    "openai_media",
    "openai_responses",
    "openai_usage",
    "perplexity",
    "perplexity_usage",
    "together",
    "together_usage",
    "vertex",
    "vllm",
    "vllm_usage",
    "xai",
    "xai_usage",
]
