"""A checkpoint's tokenizer, from whichever file it brings."""

from pathlib import Path

from tokenizers import BertWordPieceTokenizer, Tokenizer

from sie_server.errors import UnsupportedModelError
from sie_server.models.config import read_json
from sie_server.models.source import TOKENIZER_FILES


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of `tokenizer.json`, or BERT's WordPiece over `vocab.txt`.

    Raises:
        UnsupportedModelError: there is neither file, or it is broken.
    """
    path = next((folder / name for name in TOKENIZER_FILES if (folder / name).is_file()), None)
    if path is None:
        raise UnsupportedModelError(f"{folder} has no tokenizer.json; save it with transformers' `save_pretrained`")
    try:
        return Tokenizer.from_file(str(path)) if path.suffix == ".json" else _word_piece(path)
    except Exception as error:  # the library raises bare Exception
        raise UnsupportedModelError(f"{path} can't be read: {error}") from error


def _word_piece(vocabulary: Path) -> Tokenizer:
    settings_file = vocabulary.with_name("tokenizer_config.json")
    settings = read_json(settings_file) if settings_file.is_file() else {}
    word_piece = BertWordPieceTokenizer(
        str(vocabulary),
        lowercase=settings.get("do_lower_case", True),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    return Tokenizer.from_str(word_piece.to_str())
