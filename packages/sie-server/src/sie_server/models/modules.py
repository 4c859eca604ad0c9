"""What sentence-transformers' files in a checkpoint's folder say, beside `config.json`."""

from dataclasses import replace
from pathlib import Path

from sie_server.errors import UnsupportedModelError
from sie_server.models.config import ModelConfig, read_json
from sie_server.nn.heads import Pooling


def with_modules(config: ModelConfig, folder: Path) -> ModelConfig:
    """The config as sentence-transformers' files complete it: what a cross-encoder's score is.

    Raises:
        UnsupportedModelError: one of the files is no JSON object.
    """
    path = folder / "config_sentence_transformers.json"
    # From release 5.4 on the name stands here, and goes before that in `config.json`.
    activation = read_json(path).get("activation_fn") if path.is_file() else None
    return replace(config, score_activation=activation or config.score_activation)


def pooling_hint(folder: Path) -> Pooling | None:
    """How sentence-transformers pools this checkpoint (`1_Pooling/config.json`), if it says.

    Raises:
        UnsupportedModelError: it pools in another way than by mean or first token.
    """
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return None
    pooling = read_json(path)
    # Releases before 6 wrote one boolean per mode, later ones the mode's name.
    modes = [key.removeprefix("pooling_mode_") for key, on in pooling.items() if key.startswith("pooling_mode_") and on]
    modes = [pooling["pooling_mode"]] if "pooling_mode" in pooling else modes
    match modes:
        case ["mean_tokens" | "mean"]:
            return "mean"
        case ["cls_token" | "cls"]:
            return "cls"
    raise UnsupportedModelError(f"pooling {modes} is not supported; supported: mean, cls")


def max_length_hint(folder: Path) -> int | None:
    """The limit in tokens that sentence-transformers or the tokenizer sets, if either does."""
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        if (folder / name).is_file() and isinstance(limit := read_json(folder / name).get(key), int | float):
            # transformers writes 1e30 for "no limit".
            return int(limit) if limit < 1e9 else None
    return None
