"""A checkpoint's tokenizer, made of the files that transformers makes it of, in the same order of precedence."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from tokenizers import AddedToken, Tokenizer, normalizers, processors

from sie_server.checkpoints.cancellation import stop_if_given_up
from sie_server.checkpoints.files import read_file, read_json
from sie_server.checkpoints.tokenizer_classes import CLASSES, Given, TokenizerClass, class_of
from sie_server.errors import LoadClass, LoadError, UnsupportedModelError
from sie_server.rust_panics import contained

# The roles a special token can have, in the order in which transformers adds those that are missing.
_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# The largest that are published have 35 million. A tokenizer takes some ten times its file's size in memory.
_MOST_BYTES = 256 * 2**20
_NO_SUCH_FILE = "save one with transformers: `AutoTokenizer.from_pretrained(path).save_pretrained(path)`"


class FolderTokenizer(NamedTuple):
    """A checkpoint's tokenizer, and whether it tells the two texts of a pair apart by token types."""

    tokenizer: Tokenizer
    token_types: bool


class _Settings(msgspec.Struct, frozen=True):
    """What may only have one value, in `tokenizer_config.json`: the others are given to the tokenizer's class."""

    truncation_side: str | None = None
    model_input_names: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    split_special_tokens: bool = False


def read_tokenizer(folder: Path) -> FolderTokenizer:
    """The tokenizer of a folder as `AutoTokenizer` of transformers 5 has it.

    `tokenizer_class` decides what is read: the whole of `tokenizer.json`, or its vocabulary alone, or that of
    `vocab.txt` or of `vocab.json` and `merges.txt`, with everything else as the class and `tokenizer_config.json` say.

    Raises:
        LoadError: STORAGE, a file is missing or can't be read.
        UnsupportedModelError: it is broken, or larger than any tokenizer, or asks for what we do not compute.
    """
    try:
        with contained():
            return _read(folder)
    except LoadError:
        raise
    except Exception as error:  # the library raises bare Exception, and panics
        raise UnsupportedModelError(f"the tokenizer in {folder} can't be read: {error}") from error


def named_tokens(folder: Path) -> dict[str, str]:
    """The special tokens by role, as templates have them.

    Raises:
        LoadError: as `read_tokenizer`.
    """
    settings = _optional(folder / "tokenizer_config.json")
    try:
        _, kind = class_of(settings, _optional(folder / "config.json"), None)
        named, _ = _special_tokens(folder, dict(settings), [])
    except (TypeError, ValueError, AttributeError) as error:
        raise UnsupportedModelError(f"the special tokens of {folder} can't be read: {error}") from error
    return {role: str(token) for role, token in {**kind.special, **named}.items() if token is not None}


def _read(folder: Path) -> FolderTokenizer:
    settings = _optional(folder / "tokenizer_config.json")
    config = _optional(folder / "config.json")
    saved = _optional(folder / "sentence_bert_config.json") if (folder / "modules.json").is_file() else {}
    file = folder / "tokenizer.json"
    content = read_file(file, _MOST_BYTES) if file.is_file() else None
    described = None if content is None else msgspec.json.decode(content, type=dict[str, Any])
    stop_if_given_up()
    name, kind = class_of(settings, config, described)
    settings = {**settings, **_keywords(saved)}
    if described is None and not kind.vocabulary_in(folder):
        raise _missing(folder, name, kind)
    if described is not None:
        # What adds tokens around a text is in the file.
        settings.pop("add_bos_token", None)
        settings.pop("add_eos_token", None)
    carried = (described or {}).get("added_tokens") or []
    special, added = _special_tokens(folder, settings, carried)
    special = {**dict.fromkeys(_ROLES), **kind.special, **special}
    special = {role: token for role, token in special.items() if token is not None}
    given = Given(folder, content, described, settings, {role: str(token) for role, token in special.items()})
    tokenizer = kind.build(given)
    checked = msgspec.convert(settings, _Settings)
    side = checked.truncation_side or ((described or {}).get("truncation") or {}).get("direction", "right")
    if side.lower() != "right":
        raise UnsupportedModelError(f"truncation_side {side!r} is not supported; supported: 'right'")
    if kind is CLASSES["TokenizersBackend"] and tokenizer.padding is not None:
        special.setdefault("pad_token", tokenizer.padding["pad_token"])
    tokenizer.encode_special_tokens = checked.split_special_tokens
    _add(tokenizer, special, added, settings.get("extra_special_tokens", kind.extra) or ())
    _surround(tokenizer, kind, given)
    if saved.get("do_lower_case"):
        _lower(tokenizer)
    names = kind.inputs if checked.model_input_names is msgspec.UNSET else checked.model_input_names
    return FolderTokenizer(tokenizer, "token_type_ids" in names)


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _keywords(saved: Mapping[str, Any]) -> dict[str, Any]:
    """What sentence-transformers hands to the tokenizer, under the key of its release."""
    given = saved.get("processor_kwargs") or saved.get("tokenizer_args") or {}
    return {key: value for key, value in given.items() if key != "trust_remote_code"}


def _missing(folder: Path, name: str, kind: TokenizerClass) -> LoadError:
    if pieces := sorted(path.name for path in folder.glob("*.model")):
        return UnsupportedModelError(f"{folder} has {pieces[0]} and no tokenizer.json; {_NO_SUCH_FILE}")
    files = f" or {' and '.join(kind.files)}" if kind.files else ""
    # Not for ever: the folder may just be replaced.
    return LoadError(LoadClass.STORAGE, f"{folder} has no tokenizer.json{files} for its {name}; {_NO_SUCH_FILE}")


def _special_tokens(
    folder: Path, settings: dict[str, Any], carried: list[dict[str, Any]]
) -> tuple[dict[str, Any], list[AddedToken]]:
    """Tokens by role, and all that were added to the vocabulary, by id. Extra ones stay in the settings."""
    if settings.get("additional_special_tokens") is not None and not settings.get("extra_special_tokens"):
        settings["extra_special_tokens"] = settings.pop("additional_special_tokens")
    own = {
        key: settings[key]
        for key in settings
        if key.endswith("_token") and key not in _ROLES and isinstance(settings[key], str)
    }
    if isinstance(extra := settings.get("extra_special_tokens"), dict):
        own |= extra
        del settings["extra_special_tokens"]
    added: dict[int, AddedToken] = {}
    if "added_tokens_decoder" in settings:
        added = {int(index): AddedToken(**token) for index, token in settings["added_tokens_decoder"].items()}
    else:
        for key, value in _optional(folder / "special_tokens_map.json").items():
            if key == "extra_special_tokens" and isinstance(value, list):
                value = [*(settings.get(key) or ()), *value]
            elif isinstance(value, dict) and key != "extra_special_tokens":
                value = {**value, "special": True}
            settings[key] = value
        if isinstance(extra := settings.get("extra_special_tokens"), dict):
            own |= extra
            del settings["extra_special_tokens"]
        elif extra is None and settings.get("additional_special_tokens"):
            settings["extra_special_tokens"] = settings["additional_special_tokens"]
        named = {str(_token(settings[role])) for role in _ROLES if settings.get(role)}
        named |= {str(_token(token)) for token in settings.get("extra_special_tokens") or ()}
        for content, index in _optional(folder / "added_tokens.json").items():
            added[index] = AddedToken(content, normalized=content not in named, special=content in named)
        for token in carried:
            added[token["id"]] = AddedToken(**{key: value for key, value in token.items() if key != "id"})
    if settings.get("extra_special_tokens"):
        settings["extra_special_tokens"] = [_token(token) for token in settings["extra_special_tokens"]]
    known = {str(token): token for token in added.values()}
    roles = {role: _token(settings[role]) for role in _ROLES if role in settings}
    roles = {role: known.get(str(token), token) for role, token in roles.items()}
    return {**roles, **own}, [token for _, token in sorted(added.items())]


def _token(value: Any) -> Any:
    """A token as `tokenizer_config.json` or `special_tokens_map.json` writes it: its text, or its fields."""
    if isinstance(value, dict):
        fields = {key: field for key, field in value.items() if key not in ("__type", "special")}
        return AddedToken(**fields, special=value.get("special", "__type" not in value))
    return value


def _add(tokenizer: Tokenizer, special: Mapping[str, Any], added: list[AddedToken], extra: Any) -> None:
    """The tokens that the vocabulary lacks, and the flags of those that it has."""
    tokens: list[Any] = [*added]
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()} | {
        str(token) for token in tokens
    }
    for token in (*special.values(), *extra):
        if str(token) not in known:
            tokens.append(token)
            known.add(str(token))
    named = set(map(str, special.values()))
    adding = []
    for token in tokens:
        if isinstance(token, str):
            token = AddedToken(token, special=True)
        elif str(token) in named:
            token.special = True
        adding.append(token)
    tokenizer.add_tokens(adding)


def _surround(tokenizer: Tokenizer, kind: TokenizerClass, given: Given) -> None:
    """What the class puts around a text and a pair; one without a say leaves that to `tokenizer.json`."""
    if kind.around is not None:
        tokenizer.post_processor = kind.around(tokenizer, given)
        return
    flags = [given.settings.get(flag) for flag in ("add_bos_token", "add_eos_token")]
    if tokenizer.post_processor is not None and flags == [None, None]:
        return
    ends = [given.special.get(role, "") if on else "" for role, on in zip(_ROLES, flags, strict=False)]
    before, after = (f"{end}:0 " if end else "" for end in ends)
    single = f"{before}$A:0 {after}".strip()
    pair = f"{single} {before.replace(':0', ':1')}$B:1 {after.replace(':0', ':1')}".strip()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(end, tokenizer.token_to_id(end)) for end in ends if end]
    )


def _lower(tokenizer: Tokenizer) -> None:
    """Lower case in front of everything else, unless the tokenizer has it."""
    normalizer = tokenizer.normalizer
    parts = [] if normalizer is None else [normalizer]
    if isinstance(normalizer, normalizers.Sequence):
        parts = list(normalizer)  # type: ignore[call-overload]  # by index, not by __iter__
    if any(isinstance(part, normalizers.Lowercase) or getattr(part, "lowercase", False) for part in parts):
        return
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *parts])
