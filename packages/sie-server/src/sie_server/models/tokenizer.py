"""A checkpoint's tokenizer, from whichever file it brings."""

from pathlib import Path

from tokenizers import BertWordPieceTokenizer, Tokenizer

from sie_server.errors import LoadClass, LoadError, UnsupportedModelError
from sie_server.models.files import read_file, read_json
from sie_server.models.source import TOKENIZER_FILES
from sie_server.models.stopping import stop_if_given_up

# The largest that are published have 35 million. A tokenizer takes some ten times its file's size in memory.
_MOST_BYTES = 256 * 2**20


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of `tokenizer.json`, or BERT's WordPiece over `vocab.txt`.

    Raises:
        LoadError: STORAGE, there is neither file, or it can't be read.
        UnsupportedModelError: it is broken, or larger than any tokenizer.
    """
    path = next((folder / name for name in TOKENIZER_FILES if (folder / name).is_file()), None)
    if path is None:
        # Not for ever: the folder may just be replaced.
        message = f"{folder} has no tokenizer.json; save it with transformers' `save_pretrained`"
        raise LoadError(LoadClass.STORAGE, message)
    content = read_file(path, _MOST_BYTES)
    stop_if_given_up()
    try:
        return Tokenizer.from_buffer(content) if path.suffix == ".json" else _word_piece(path)
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
