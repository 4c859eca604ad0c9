"""Builds a checkpoint's tokenizer from the same files as transformers, with the same precedence."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from tokenizers import AddedToken, Tokenizer, normalizers, processors

from sie_server.checkpoints.cancellation import stop_if_given_up
from sie_server.checkpoints.checkpoint import Checkpoint
from sie_server.checkpoints.colbert import TRANSFORMER_FILE
from sie_server.checkpoints.files import read_file
from sie_server.checkpoints.tokenizer_classes import CLASSES, Given, TokenizerClass, class_of
from sie_server.errors import LoadClass, LoadError, UnsupportedModelError
from sie_server.rust_panics import contained

# The roles of special tokens, in the order in which transformers adds missing ones.
_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# The largest published ones have 35 million. A tokenizer needs about ten times the size of its file in memory.
_MAX_BYTES = 256 * 2**20
_SETTINGS_FILE = "tokenizer_config.json"
_NO_SUCH_FILE = "save one with transformers: `AutoTokenizer.from_pretrained(path).save_pretrained(path)`"


class FolderTokenizer(NamedTuple):
    """A checkpoint's tokenizer, and whether token types distinguish the two texts of a pair."""

    tokenizer: Tokenizer
    token_types: bool


class _Settings(msgspec.Struct, frozen=True):
    """The settings in `tokenizer_config.json` that are checked here; the tokenizer's class reads the others."""

    truncation_side: str | None = None
    model_input_names: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    split_special_tokens: bool = False


def read_tokenizer(checkpoint: Checkpoint) -> FolderTokenizer:
    """The tokenizer that `AutoTokenizer` of transformers 5 builds from the same files.

    `tokenizer_class` decides which files count: all of `tokenizer.json`, or only its vocabulary, or the vocabulary in
    `vocab.txt` or in `vocab.json` and `merges.txt`. The class and `tokenizer_config.json` determine everything else.

    Raises:
        LoadError: STORAGE, a file is missing or can't be read.
        UnsupportedModelError: a file is broken or too large, or asks for something unsupported.
    """
    try:
        with contained():
            return _read(checkpoint)
    except LoadError:
        raise
    except Exception as error:  # the library raises bare Exception, and panics
        raise UnsupportedModelError(f"the tokenizer in {checkpoint.folder} can't be read: {error}") from error


def named_tokens(checkpoint: Checkpoint) -> dict[str, str]:
    """The special tokens by role, as chat templates get them.

    Raises:
        LoadError: as `read_tokenizer`.
    """
    settings = checkpoint.optional_json(_SETTINGS_FILE)
    try:
        _, kind = class_of(settings, checkpoint.optional_json("config.json"), None)
        named, _ = _special_tokens(checkpoint, dict(settings), [])
    except (TypeError, ValueError, AttributeError) as error:
        raise UnsupportedModelError(f"the special tokens of {checkpoint.folder} can't be read: {error}") from error
    return {role: str(token) for role, token in {**kind.special, **named}.items() if token is not None}


def _read(checkpoint: Checkpoint) -> FolderTokenizer:
    config = checkpoint.optional_json("config.json")
    saved = checkpoint.optional_json(TRANSFORMER_FILE) if checkpoint.has("modules.json") else {}
    # Not kept by the checkpoint: it is large, and read nowhere else.
    file = checkpoint.folder / "tokenizer.json"
    content = read_file(file, _MAX_BYTES) if checkpoint.has(file.name) else None
    described = None if content is None else msgspec.json.decode(content, type=dict[str, Any])
    stop_if_given_up()
    name, kind = class_of(checkpoint.optional_json(_SETTINGS_FILE), config, described)
    settings = {**checkpoint.optional_json(_SETTINGS_FILE), **_keywords(saved)}
    if described is None and not kind.vocabulary_in(checkpoint):
        raise _missing(checkpoint, name, kind)
    if described is not None:
        # The file says which tokens are added around a text.
        settings.pop("add_bos_token", None)
        settings.pop("add_eos_token", None)
    carried = (described or {}).get("added_tokens") or []
    special, added = _special_tokens(checkpoint, settings, carried)
    special = {**dict.fromkeys(_ROLES), **kind.special, **special}
    special = {role: token for role, token in special.items() if token is not None}
    given = Given(checkpoint, content, described, settings, {role: str(token) for role, token in special.items()})
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


def _keywords(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments that sentence-transformers passes to the tokenizer; the key depends on its release."""
    given = saved.get("processor_kwargs") or saved.get("tokenizer_args") or {}
    return {key: value for key, value in given.items() if key != "trust_remote_code"}


def _missing(checkpoint: Checkpoint, name: str, kind: TokenizerClass) -> LoadError:
    folder = checkpoint.folder
    if pieces := sorted(path.name for path in folder.glob("*.model")):
        return UnsupportedModelError(f"{folder} has {pieces[0]} and no tokenizer.json; {_NO_SUCH_FILE}")
    files = f" or {' and '.join(kind.files)}" if kind.files else ""
    # STORAGE is tried again: the folder may be about to be replaced.
    return LoadError(LoadClass.STORAGE, f"{folder} has no tokenizer.json{files} for its {name}; {_NO_SUCH_FILE}")


def _special_tokens(
    checkpoint: Checkpoint, settings: dict[str, Any], carried: list[dict[str, Any]]
) -> tuple[dict[str, Any], list[AddedToken]]:
    """Tokens by role, and the tokens added to the vocabulary, by id. Changes `settings`, where extra tokens stay.

    carried: the added tokens of `tokenizer.json`.
    """
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
        for key, value in checkpoint.optional_json("special_tokens_map.json").items():
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
        for content, index in checkpoint.optional_json("added_tokens.json").items():
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
    """A token in the form of `tokenizer_config.json` or `special_tokens_map.json`: its text, or its fields."""
    if isinstance(value, dict):
        fields = {key: field for key, field in value.items() if key not in ("__type", "special")}
        return AddedToken(**fields, special=value.get("special", "__type" not in value))
    return value


def _add(tokenizer: Tokenizer, special: Mapping[str, Any], added: list[AddedToken], extra: Any) -> None:
    """Add the tokens that the vocabulary lacks, and set the flags of the others."""
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
    """Set the tokens around a text and a pair, if the class or the settings decide on them."""
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
    """Convert to lower case before everything else, unless the tokenizer already does."""
    normalizer = tokenizer.normalizer
    parts = [] if normalizer is None else [normalizer]
    if isinstance(normalizer, normalizers.Sequence):
        parts = list(normalizer)  # type: ignore[call-overload]  # by index, not by __iter__
    if any(isinstance(part, normalizers.Lowercase) or getattr(part, "lowercase", False) for part in parts):
        return
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *parts])
