"""Tokens are counted by the model's own tokenizer, offline, and an estimate says that it is one."""

from __future__ import annotations

import base64
import os
import struct
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from subprocess import run
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentsight_tokens.counting import TokenCounter, counter, encodings, image_tokens
from agentsight_tokens.counting.encodings import (
    cache_directories,
    encoding_of_model,
    load_encoding,
    load_tokenizer,
)
from agentsight_tokens.counting.images import image_size, largest_image_tokens
from agentsight_tokens.errors import EncodingUnavailableError, EstimatedCountWarning

tiktoken = pytest.importorskip("tiktoken")
registry = pytest.importorskip("tiktoken.registry")

# The examples of OpenAI's cookbook, with the counts that it prints of its own API.
JARGON = [
    {
        "role": "system",
        "content": "You are a helpful, pattern-following assistant that translates corporate "
        "jargon into plain English.",
    },
    {
        "role": "system",
        "name": "example_user",
        "content": "New synergies will help drive top-line growth.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Things working well together will increase revenue.",
    },
    {
        "role": "system",
        "name": "example_user",
        "content": "Let's circle back when we have more bandwidth to touch base on opportunities "
        "for increased leverage.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Let's talk later when we're less busy about how to do better.",
    },
    {
        "role": "user",
        "content": "This late pivot means we don't have time to boil the ocean for the client "
        "deliverable.",
    },
]
WEATHER = [
    {
        "role": "system",
        "content": "You are a helpful assistant that can answer to questions about the weather.",
    },
    {"role": "user", "content": "What's the weather like in San Francisco?"},
]
PARAMETERS = {
    "type": "object",
    "properties": {
        "location": {
            "type": "string",
            "description": "The city and state, e.g. San Francisco, CA",
        },
        "unit": {
            "type": "string",
            "description": "The unit of temperature to return",
            "enum": ["celsius", "fahrenheit"],
        },
    },
    "required": ["location"],
}
FUNCTION = {
    "name": "get_current_weather",
    "description": "Get the current weather in a given location",
}
TOOLS = [{"type": "function", "function": {**FUNCTION, "parameters": PARAMETERS}}]


@pytest.fixture(autouse=True)
def _fresh_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings that are given once are given in every test."""
    monkeypatch.setattr(counter, "_warned", set())


@pytest.fixture
def _nothing_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No encoding's file is found, none is loaded, and none can be fetched."""
    monkeypatch.setattr(encodings, "_loaded", {})
    monkeypatch.setattr(encodings, "_IN_PACKAGES", ())
    monkeypatch.setattr(registry, "ENCODINGS", {})
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.delenv("DATA_GYM_CACHE_DIR", raising=False)


def test_text() -> None:
    """A text has the tokens that tiktoken gives it."""
    counted = TokenCounter(encoding="cl100k_base")

    assert counted.count("Hello, world!") == 4
    assert counted.count("") == counted.count(None) == 0
    assert (counted.encoding, counted.is_estimate) == ("cl100k_base", False)


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("openai/GPT-4o-mini", "o200k_base"),
        ("ft:gpt-4o-mini-2024-07-18:org::id", "o200k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("openrouter/openai/gpt-oss-120b", "o200k_harmony"),
        ("text-davinci-003", "p50k_base"),
        ("claude-sonnet-4-5", None),
        ("azure/my-deployment", None),
    ],
)
def test_encoding_of_model(model: str, encoding: str | None) -> None:
    """A model's encoding is tiktoken's, whatever prefix or case its name has."""
    assert encoding_of_model(model) == encoding
    assert TokenCounter(model=model).encoding == encoding or encoding is None


@pytest.mark.parametrize("name", ["cl100k_base", "o200k_base", "p50k_base", "o200k_harmony"])
def test_encoding_from_an_installed_package(name: str) -> None:
    """The files in installed packages give tiktoken's own encoding, harmony's included."""
    if name == "p50k_base" and find_spec("litellm") is None:
        pytest.skip("only litellm brings it")
    text = "Paris, 東京 and 🦜: 12345 <|endoftext|>\n\n\tdef f(x): return x"

    encoding = load_encoding(name)

    assert encoding.name == name
    assert encoding.decode(encoding.encode_ordinary(text)) == text


def test_nothing_is_imported_or_changed() -> None:
    """Counting imports no framework, and leaves the environment and tiktoken's registry alone."""
    program = (
        "import os, sys; before = dict(os.environ)\n"
        "import agentsight_tokens.counting as c\n"
        "assert not {'tiktoken', 'tempfile'} & set(sys.modules)\n"
        "counter = c.TokenCounter(); assert 'tiktoken' not in sys.modules\n"
        "assert counter.count('Hello, world!') == 4\n"
        "import tiktoken.registry as r; assert not r.ENCODINGS\n"
        "assert dict(os.environ) == before\n"
        "print([m for m in ('llama_index', 'litellm', 'tokenizers') if m in sys.modules])"
    )

    done = run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("text", ["<|endoftext|>", "a <|im_start|> b", "\ud800", "\x00"])
def test_special_tokens_are_text(text: str) -> None:
    """Special tokens and broken characters in a user's text do not raise."""
    assert TokenCounter().count(text) >= 1


@pytest.mark.parametrize(
    ("model", "tokens"), [("gpt-4o", 124), ("gpt-4o-mini", 124), ("gpt-4", 129)]
)
def test_messages_of_the_cookbook(model: str, tokens: int) -> None:
    """Messages with names have the tokens that OpenAI's API reports."""
    assert TokenCounter(model=model).count_messages(JARGON) == tokens


@pytest.mark.parametrize(
    ("model", "tokens"),
    [("gpt-4o", 101), ("gpt-4o-mini", 101), ("gpt-4", 105), ("gpt-3.5-turbo", 105)],
)
@pytest.mark.parametrize(
    "tools",
    [
        TOOLS,
        [{**FUNCTION, "parameters": PARAMETERS}],
        [{**FUNCTION, "input_schema": PARAMETERS}],
        [SimpleNamespace(**FUNCTION, parameters=PARAMETERS)],
    ],
)
def test_tools_of_the_cookbook(model: str, tokens: int, tools: list[Any]) -> None:
    """Tools have the tokens that OpenAI's API reports, however they are written."""
    assert TokenCounter(model=model).count_messages(WEATHER, tools=tools) == tokens


def test_nested_tools() -> None:
    """Objects and lists within properties count too, and a tool without any is only its name."""
    counted = TokenCounter(model="gpt-4o")
    bare = [{"name": "now"}]
    flat = [{"name": "now", "parameters": {"properties": {"a": {"type": "object"}}}}]
    nested = [
        {
            "name": "now",
            "parameters": {
                "properties": {
                    "a": {
                        "type": "array",
                        "items": {"properties": {"b": {"type": "string"}}},
                    }
                }
            },
        }
    ]

    none, one, two, three = (counted.count_messages([], tools=t) for t in ([], bare, flat, nested))

    assert none == 3
    assert one == 3 + 7 + counted.count("now:") + 12
    assert two == one + 3 + 3 + counted.count("a:object:")
    assert three == one + 2 * (3 + 3) + counted.count("a:array:") + counted.count("b:string:")


def test_list_content() -> None:
    """The content of a message may be a list of parts, and so may what is counted."""
    counted = TokenCounter()
    parts = [
        {"type": "text", "text": "Hello, world!"},
        {"type": "input_text", "text": "Hello, world!"},
        {"type": "refusal", "refusal": "Hello, world!"},
        {"text": "Hello, world!"},
        {"type": "text", "text": None},
        "Hello, world!",
    ]

    assert counted.count(parts) == 5 * 4
    assert counted.count(parts[0]) == 4
    assert counted.count([]) == 0
    assert counted.count_messages([{"role": "user", "content": parts}]) == 3 + 3 + 1 + 5 * 4


def test_messages_as_text() -> None:
    """A list of messages is counted as messages, also by `count`."""
    message = {"role": "user", "content": "Hello, world!"}

    assert TokenCounter().count([message]) == TokenCounter().count_messages([message]) == 11
    assert TokenCounter().count([SimpleNamespace(**message)]) == 11


def test_tool_calls_and_results() -> None:
    """A tool call counts its name and arguments, a result its content; ids are not shown."""
    counted = TokenCounter()
    call = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    tokens = counted.count(call["name"]) + counted.count(call["arguments"])
    openai = {
        "role": "assistant",
        "tool_calls": [{"id": "1", "type": "function", "function": call}],
    }
    legacy = {"role": "assistant", "content": None, "function_call": call}
    langchain = SimpleNamespace(
        type="ai", content="", tool_calls=[{"name": "get_weather", "args": {"city": "Paris"}}]
    )
    anthropic = {
        "role": "assistant",
        "content": [
            {"type": "tool_use", "id": "1", "name": "get_weather", "input": {"city": "Paris"}}
        ],
    }
    result = {
        "type": "message",
        "role": "user",
        "content": [{"type": "tool_result", "content": [{"type": "text", "text": "sunny"}]}],
    }

    assert [
        counted.count_messages([message]) for message in (openai, legacy, langchain, anthropic)
    ] == [3 + 3 + 1 + tokens] * 4
    silent = {"role": "user", "content": [{"type": "tool_result"}], "annotations": []}

    assert counted.count_messages([result]) == 3 + 3 + 1 + counted.count("sunny")
    assert counted.count_messages([silent]) == 3 + 3 + 1


def test_langchain_messages() -> None:
    """LangChain's messages have the roles that the provider is sent."""
    messages = pytest.importorskip("langchain_core.messages")
    given = [messages.SystemMessage("Be brief."), messages.HumanMessage("Hello, world!")]
    sent = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello, world!"},
    ]

    assert TokenCounter().count_messages(given) == TokenCounter().count_messages(sent)
    assert TokenCounter().count(given) == TokenCounter().count_messages(sent)


@pytest.mark.parametrize("content", [3, b"bytes", [3], object()])
def test_no_text(content: Any) -> None:
    """What is neither text nor a list is refused."""
    with pytest.raises(TypeError):
        TokenCounter().count_messages([{"role": "user", "content": content}])


@pytest.mark.parametrize("message", ["text", 3, SimpleNamespace(a=1)])
def test_no_message(message: Any) -> None:
    """What is no message is refused."""
    with pytest.raises(TypeError, match="a message is a dict or an object"):
        TokenCounter().count_messages([message])


def test_margin() -> None:
    """The margin is a part of the count, rounded down."""
    counted, text = TokenCounter(), "Hello, world!" * 10

    assert counted.count(text) == 40
    assert counted.count_with_margin(text) == 44
    assert counted.count_with_margin(text, margin=0) == 40
    assert counted.fits_context(text, 44)
    assert not counted.fits_context(text, 43)
    assert counted.fits_context(text, 40, margin=0)
    with pytest.raises(ValueError, match="must not be negative"):
        counted.count_with_margin(text, margin=-0.1)


@pytest.mark.parametrize(
    ("width", "height", "model", "detail", "tokens"),
    [
        (1024, 1024, None, "high", 765),
        (1024, 1024, "gpt-4o", "auto", 765),
        (2048, 4096, "gpt-4o", "high", 1105),
        (4096, 8192, "gpt-4o", "low", 85),
        (512, 512, "gpt-4o", "high", 255),
        (513, 513, "gpt-4.1", "high", 765),
        (1, 1, "gpt-4o", "high", 255),
        (10_000, 10, "gpt-4o", "high", 85 + 4 * 170),
        (1024, 1024, "openai/gpt-4o-mini-2024-07-18", "high", 2833 + 4 * 5667),
        (1024, 1024, "gpt-5", "high", 630),
        (1024, 1024, "gpt-5-chat-latest", "high", 630),
        (1024, 1024, "o1", "high", 675),
        (1024, 1024, "o3-2025-04-16", "high", 675),
        (1024, 1024, "gpt-4.1-mini", "high", 1659),
        (1800, 2400, "gpt-4.1-mini-2025-04-14", "high", 2353),
        (1024, 1024, "gpt-5-nano", "high", 2520),
        (32, 33, "o4-mini", "high", 4),
        (2048, 2048, "o4-mini", "low", 441),
        (100_000, 1, "gpt-5-mini", "high", 2489),
    ],
)
def test_image(width: int, height: int, model: str | None, detail: str, tokens: int) -> None:
    """An image has the tokens of the documented rules of its model."""
    assert image_tokens(width, height, model=model, detail=detail) == tokens


@settings(deadline=None)
@given(
    st.integers(1, 20_000),
    st.integers(1, 20_000),
    st.sampled_from([None, "gpt-4o", "gpt-4o-mini", "gpt-5-mini", "o4-mini", "o1"]),
    st.sampled_from(["low", "high"]),
)
def test_no_image_is_larger_than_the_largest(
    width: int, height: int, model: str | None, detail: str
) -> None:
    """No size has more tokens than an image whose size is not known is counted with."""
    most = largest_image_tokens(model=model, detail=detail)

    assert 0 < image_tokens(width, height, model=model, detail=detail) <= most


@pytest.mark.parametrize(("width", "height"), [(0, 1), (1, -1)])
def test_impossible_image(width: int, height: int) -> None:
    """An image without an area is refused."""
    with pytest.raises(ValueError, match="sides above 0"):
        image_tokens(width, height)


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\x08\x02"


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height)


def jpeg(width: int, height: int) -> bytes:
    quantisation = b"\xff\xdb\x00\x04\x01\x02"
    frame = b"\xff\xc2\x00\x0b\x08" + struct.pack(">HH", height, width) + b"\x03\x01\x22\x00"
    return b"\xff\xd8\xff\xe0\x00\x04\x4a\x46" + quantisation + frame


def webp_lossy(width: int, height: int) -> bytes:
    return b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)


def webp_lossless(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    return b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + struct.pack("<I", bits) + b"\0" * 5


def webp_extended(width: int, height: int) -> bytes:
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0" + sides


@pytest.mark.parametrize("made", [png, gif, jpeg, webp_lossy, webp_lossless, webp_extended])
def test_size_of_an_image(made: Callable[[int, int], bytes]) -> None:
    """The size is read from the header of a file, of base64 and of a data URL."""
    data = made(640, 480)
    text = base64.b64encode(data).decode()

    assert image_size(data) == image_size(text) == (640, 480)
    assert image_size(f"data:image/x;base64,{text}") == (640, 480)


@pytest.mark.parametrize(
    "data",
    [b"", "é", "", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"\xff\xd8", b"\xff\xd8\xff",
     b"\xff\xd8\xff\xc0\x00\x02", b"\xff\xd8\xff\xc4\x00\x02\xff\xda\x00\x02x", b"BM\0\0"],
    ids=repr,
)  # fmt: skip
def test_image_without_a_size(data: str | bytes) -> None:
    """A header that does not tell the size is not guessed at."""
    assert image_size(data) is None


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,{}", "detail": "high"}},
        {"type": "image_url", "image_url": "data:image/png;base64,{}"},
        {"type": "input_image", "image_url": "data:image/png;base64,{}", "detail": "high"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "{}"}},
    ],
)
def test_image_in_a_message(part: dict[str, Any]) -> None:
    """An image within a message is counted by its size, however it is written."""
    text = base64.b64encode(png(1024, 1024)).decode()

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(inner) for key, inner in value.items()}
        return value.replace("{}", text)

    assert TokenCounter(model="gpt-4o").count([filled(part)]) == 765


def test_image_at_an_address() -> None:
    """An image that is elsewhere is not fetched: it counts as the largest, with a warning."""
    part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    counted = TokenCounter(model="gpt-4o")

    with pytest.warns(EstimatedCountWarning, match="counted as the largest one"):
        assert counted.count([part]) == 85 + 8 * 170
    assert counted.count([part]) == 85 + 8 * 170
    low = {"type": "image_url", "image_url": {"url": "https://a.png", "detail": "low"}}
    assert counted.count([low]) == 85


def test_part_without_a_rule() -> None:
    """A part for which no rule is documented counts 0 and says so."""
    with pytest.warns(EstimatedCountWarning, match="'input_audio' is counted as 0"):
        assert TokenCounter().count([{"type": "input_audio", "input_audio": {}}]) == 0


def test_estimate_of_an_unknown_model() -> None:
    """A model that no tokenizer is at hand for is counted by the encoding, and flagged once."""
    counted = TokenCounter(model="claude-sonnet-4-5")

    with pytest.warns(EstimatedCountWarning, match="no tokenizer of 'claude-sonnet-4-5'"):
        assert counted.count("Hello, world!") == 4
    assert counted.is_estimate
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert TokenCounter(model="claude-sonnet-4-5").count("Hello, world!") == 4


@pytest.mark.usefixtures("_nothing_on_this_machine")
def test_encoding_that_is_not_here() -> None:
    """Without its file an encoding is not counted by, and the error says how to get it."""
    with pytest.raises(EncodingUnavailableError) as caught:
        TokenCounter().count("Hello, world!")

    for way_out in ("llama-index-core", "allow_download=True", "TIKTOKEN_CACHE_DIR", "'bytes'"):
        assert way_out in str(caught.value)
    assert TokenCounter().count(None) == 0


@pytest.mark.usefixtures("_nothing_on_this_machine")
def test_fallback() -> None:
    """The bytes of the text are counted where that is asked for, and that is an estimate."""
    counted = TokenCounter(fallback="bytes")

    with pytest.warns(EstimatedCountWarning, match="which is an upper bound"):
        assert counted.count("héllo") == 6
    assert counted.is_estimate


@settings(deadline=None)
@given(st.text())
def test_fallback_is_an_upper_bound(text: str) -> None:
    """No text has more tokens than bytes."""
    assert TokenCounter().count(text) <= len(text.encode())


@pytest.mark.parametrize("fallback", ["chars", ""])
def test_unknown_fallback(fallback: Any) -> None:
    """A fallback that does not exist is refused at once."""
    with pytest.raises(ValueError, match="fallback is 'bytes' or None"):
        TokenCounter(fallback=fallback)


def test_unknown_encoding() -> None:
    """An encoding that tiktoken does not know raises with those that it knows, fallback or not."""
    with pytest.raises(EncodingUnavailableError, match=r"no encoding 'cl100'.*cl100k_base"):
        TokenCounter("cl100", fallback="bytes").count("text")


@pytest.mark.usefixtures("_nothing_on_this_machine")
def test_download_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """tiktoken fetches an encoding only when that is allowed, and only once."""
    asked: list[str] = []

    def fetch(name: str) -> Any:
        asked.append(name)
        return SimpleNamespace(encode_ordinary=str.split)

    monkeypatch.setattr(tiktoken, "get_encoding", fetch)

    assert TokenCounter("gpt2", allow_download=True).count("a b c") == 3
    assert TokenCounter("gpt2").count("a b") == 2
    assert asked == ["gpt2"]


@pytest.mark.usefixtures("_nothing_on_this_machine")
def test_encoding_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoding that another package brings is not made unless downloads are allowed."""
    monkeypatch.setattr(encodings, "known_encodings", lambda: ("theirs",))

    with pytest.raises(EncodingUnavailableError, match="'theirs' is not on this machine"):
        load_encoding("theirs")


@pytest.mark.usefixtures("_nothing_on_this_machine")
def test_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file is taken from the given directory or tiktoken's, if its content is the right one."""
    url = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
    name = encodings.hashlib.sha1(url.encode()).hexdigest()
    monkeypatch.undo()
    content = next(
        (directory / name).read_bytes()
        for directory in cache_directories()
        if (directory / name).is_file()
    )
    for directory, held in (("broken", b"IQ== 0"), ("whole", content)):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / name).write_bytes(held)
    monkeypatch.setattr(encodings, "_loaded", {})
    monkeypatch.setattr(encodings, "_IN_PACKAGES", ())
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "none"))
    monkeypatch.setattr(registry, "ENCODINGS", {})
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)

    with pytest.raises(EncodingUnavailableError):
        TokenCounter(cache_dir=tmp_path / "broken").count("Hello, world!")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "whole"))
    assert TokenCounter(cache_dir=tmp_path / "broken").count("Hello, world!") == 4
    assert os.environ["TIKTOKEN_CACHE_DIR"] == str(tmp_path / "whole")


def test_package_without_a_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a package, as tests put into sys.modules, is passed over."""
    stand_in = SimpleNamespace(__spec__=None)
    monkeypatch.setitem(sys.modules, "litellm", stand_in)  # type: ignore[arg-type]

    assert not any("litellm" in str(directory) for directory in cache_directories())


def test_loaded_encoding_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoding that the program has loaded through tiktoken is used as it is."""
    theirs = SimpleNamespace(encode_ordinary=str.split)
    monkeypatch.setattr(encodings, "_loaded", {})
    monkeypatch.setattr(registry, "ENCODINGS", {"cl100k_base": theirs})

    assert TokenCounter().count("a b c") == 3


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"hello": 0, "world": 1, "[UNK]": 2}, unk_token="[UNK]")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens(["<s>"])
    file = tmp_path / "tokenizer.json"
    made.save(str(file))
    return file


def test_hugging_face_tokenizer_of_a_file(tokenizer_file: Path) -> None:
    """A tokenizer.json, or the directory that holds it, is a model's own tokenizer."""
    for model in (tokenizer_file, tokenizer_file.parent):
        counted = TokenCounter(model=str(model))

        assert counted.count("hello world hello") == 3
        assert counted.count("<s>") == 3
        assert not counted.is_estimate


def test_hugging_face_tokenizer_of_the_hub(
    monkeypatch: pytest.MonkeyPatch, tokenizer_file: Path
) -> None:
    """A repository's tokenizer comes from the Hub's cache; it is fetched only when asked for."""
    hub = pytest.importorskip("huggingface_hub")
    cached: dict[str, str] = {}
    fetched: list[str] = []

    def fetch(repository: str, file: str) -> str:
        fetched.append(repository)
        return str(tokenizer_file)

    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda name, file: cached.get(name))
    monkeypatch.setattr(hub, "hf_hub_download", fetch)

    assert load_tokenizer("together_ai/meta-llama/Llama-3.3") is None
    assert fetched == []
    first = load_tokenizer("together_ai/meta-llama/Llama-3.3", allow_download=True)
    assert first is not None
    assert first("hello world") == 2
    assert fetched == ["meta-llama/Llama-3.3"]
    cached["meta-llama/Llama-3.3"] = str(tokenizer_file)
    assert load_tokenizer("meta-llama/Llama-3.3") is not None
    assert fetched == ["meta-llama/Llama-3.3"]


def test_hugging_face_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository that the Hub does not give out has no tokenizer here."""
    hub = pytest.importorskip("huggingface_hub")

    def refuse(*_: str) -> str:
        raise OSError("gated")

    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(hub, "hf_hub_download", refuse)

    assert load_tokenizer("owner/gated", allow_download=True) is None
    assert load_tokenizer("no-owner") is None


@pytest.mark.parametrize("missing", ["huggingface_hub", "tokenizers"])
def test_hugging_face_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, tokenizer_file: Path, missing: str
) -> None:
    """Without the extra there is an estimate, not an error."""
    monkeypatch.setitem(sys.modules, missing, None)
    model = "owner/model" if missing == "huggingface_hub" else str(tokenizer_file)
    counted = TokenCounter(model=model)

    with pytest.warns(EstimatedCountWarning, match="pip install"):
        assert counted.count("Hello, world!") == 4
    assert counted.is_estimate


def test_repr() -> None:
    """A counter shows what it counts by."""
    assert repr(TokenCounter(model="gpt-4o")) == "TokenCounter('cl100k_base', model='gpt-4o')"
