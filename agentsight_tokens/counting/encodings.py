"""Encodings: where their files lie on this machine, and tokenizers made from them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from agentsight_tokens.config import environment_variables
from agentsight_tokens.errors import EncodingUnavailableError

if TYPE_CHECKING:
    from tiktoken import Encoding

__all__ = [
    "cache_directories",
    "encoding_of_model",
    "known_encodings",
    "load_encoding",
    "load_tokenizer",
]

_IN_PACKAGES: Final = (
    ("llama_index", "core/_static/tiktoken_cache"),
    ("litellm", "litellm_core_utils/tokenizers"),
)
"""Packages that bring the files of encodings, and where in them."""

_loaded: Final[dict[str, Encoding]] = {}
_lock: Final = Lock()


def encoding_of_model(model: str) -> str | None:
    """Return the name of a model's encoding; None for a model that tiktoken does not know."""
    from tiktoken.model import MODEL_PREFIX_TO_ENCODING, MODEL_TO_ENCODING

    name = model.lower()
    for candidate in (name, name.rpartition("/")[2]):
        if candidate in MODEL_TO_ENCODING:
            return MODEL_TO_ENCODING[candidate]
        for prefix, encoding in MODEL_PREFIX_TO_ENCODING.items():
            if candidate.startswith(prefix):
                return encoding
    return None


def known_encodings() -> tuple[str, ...]:
    """Return the names of tiktoken's encodings, wherever their files are."""
    import tiktoken

    return tuple(tiktoken.list_encoding_names())


def cache_directories(given: str | Path | None = None) -> Iterator[Path]:
    """
    Return the directories in which files of encodings may lie.

    They are the given one, those that tiktoken itself uses, and those inside installed
    packages, which are found without being imported.
    """
    import tempfile  # It imports much, and only the first count needs it.

    if given is not None:
        yield Path(given)
    environment = environment_variables()
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if variable in environment:
            yield Path(environment[variable])
    yield Path(tempfile.gettempdir(), "data-gym-cache")
    for package, inside in _IN_PACKAGES:
        try:
            found = find_spec(package)
        except ValueError:  # A module that was put into sys.modules without a spec.
            continue
        for root in (found and found.submodule_search_locations) or ():
            yield Path(root, inside)


def load_encoding(
    name: str, *, cache_dir: str | Path | None = None, allow_download: bool = False
) -> Encoding:
    """
    Return one of tiktoken's encodings.

    Args:
        name: The encoding's name, such as `o200k_base`.
        cache_dir: Where to look first for its file, by the name that tiktoken gives it.
        allow_download: Whether tiktoken may fetch what is not on this machine.

    Raises:
        EncodingUnavailableError: If its file is not on this machine and may not be fetched,
            or tiktoken knows no encoding of this name.
    """
    import tiktoken
    from tiktoken.registry import ENCODINGS

    if name not in known_encodings():
        raise EncodingUnavailableError(
            f"tiktoken knows no encoding {name!r}; it knows {', '.join(known_encodings())}"
        )
    with _lock:
        encoding = _loaded.get(name) or ENCODINGS.get(name)
        if encoding is None:
            directories = tuple(cache_directories(cache_dir))
            try:
                encoding = tiktoken.Encoding(**_constructor(name, directories)())
            except EncodingUnavailableError:
                if not allow_download:
                    raise
                encoding = tiktoken.get_encoding(name)
        _loaded[name] = encoding
    return encoding


def _constructor(name: str, directories: tuple[Path, ...]) -> Callable[[], dict[str, Any]]:
    """
    Return tiktoken's constructor of an encoding, made to read its file from the directories.

    Its only other way to be told a directory is the process's environment, which belongs to
    the program. So its functions run with a namespace of their own.
    """
    openai_public = import_module("tiktoken_ext.openai_public")
    constructors = openai_public.ENCODING_CONSTRUCTORS
    if name not in constructors:
        # Another package's encoding, which may do anything to get its file.
        raise _unavailable(name, directories)

    def read_ranks(url: str, expected_hash: str | None = None) -> dict[bytes, int]:
        return _ranks(_find_file(name, url, expected_hash, directories))

    def refuse(**_files: str) -> NoReturn:
        raise _unavailable(name, directories)

    namespace = dict(vars(openai_public))
    namespace["load_tiktoken_bpe"] = read_ranks
    namespace["data_gym_to_mergeable_bpe_ranks"] = refuse
    for function in constructors.values():
        namespace[function.__name__] = FunctionType(function.__code__, namespace)
    constructor: Callable[[], dict[str, Any]] = namespace[constructors[name].__name__]
    return constructor


def _find_file(
    name: str, url: str, expected_hash: str | None, directories: Iterable[Path]
) -> bytes:
    file_name = hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
    for directory in directories:
        try:
            content = (directory / file_name).read_bytes()
        except OSError:
            continue
        if expected_hash in (None, hashlib.sha256(content).hexdigest()):
            return content
    raise _unavailable(name, directories)


def _ranks(content: bytes) -> dict[bytes, int]:
    """Return the ranks in a file: a line for each token, base64 and then its rank."""
    pairs = (line.split() for line in content.splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def _unavailable(name: str, directories: Iterable[Path]) -> EncodingUnavailableError:
    return EncodingUnavailableError(
        f"the encoding {name!r} is not on this machine. To get it, install llama-index-core or "
        "litellm, which bring the common encodings, or pass allow_download=True (--download "
        "at the command line) once, or copy "
        "tiktoken's cache and name its directory in TIKTOKEN_CACHE_DIR; fallback='bytes' "
        "counts an upper bound without it. "
        f"Searched: {', '.join(str(directory) for directory in directories)}"
    )


def load_tokenizer(model: str, *, allow_download: bool = False) -> Callable[[str], int] | None:
    """
    Return a counter made from a model's Hugging Face tokenizer; None when there is none.

    Args:
        model: A repository's name with its owner, or the path of a `tokenizer.json` or of a
            directory that holds one. Prefixes of providers are left out.
        allow_download: Whether it may be fetched from the Hub; else only its cache is read.
    """
    file = Path(model)
    if file.is_dir():
        file = file / "tokenizer.json"
    if file.is_file():
        found: str | None = str(file)
    else:
        owner_and_name = model.split("/")[-2:]
        if len(owner_and_name) < 2:
            return None
        found = _from_hub("/".join(owner_and_name), allow_download=allow_download)
    return None if found is None else _counter_of(found)


def _from_hub(repository: str, *, allow_download: bool) -> str | None:
    try:
        hub = import_module("huggingface_hub")
    except ImportError:
        return None
    try:
        cached = hub.try_to_load_from_cache(repository, "tokenizer.json")
        if isinstance(cached, str):
            return cached
        if not allow_download:
            return None
        return str(hub.hf_hub_download(repository, "tokenizer.json"))
    except (ValueError, OSError):
        # The name is none of a repository, or the Hub does not give out its tokenizer.
        return None


def _counter_of(file: str) -> Callable[[str], int] | None:
    try:
        tokenizers = import_module("tokenizers")
    except ImportError:
        return None
    tokenizer = tokenizers.Tokenizer.from_file(file)
    # Special tokens in a user's text are text.
    tokenizer.encode_special_tokens = True

    def length(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return length
