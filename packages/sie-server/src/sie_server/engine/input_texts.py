"""Checks that all texts of a call are present, and renders them in the model's templates."""

from collections.abc import Sequence as Items
from typing import cast

from sie_server.catalog.catalog import Entry
from sie_server.engine.calls import EncodeCall, ScoreCall
from sie_server.errors import Code, FieldError, SIEError
from sie_server.models.loaded_model import LoadedModel
from sie_server.tokenization.text_templates import fill

# Characters that take as long to copy or to compare as work on one sequence.
_CHARACTERS_PER_SEQUENCE = 256


def texts_to_score(model: LoadedModel, call: ScoreCall, most: int) -> tuple[str, Items[str], str | None]:
    """The query, the documents and the instruction, the texts in the templates of an embedding model.

    The instruction is None if the query's template has it. most: as `texts_to_encode`.

    Raises:
        SIEError: INVALID_INPUT, a text is missing, or blank where the model reads a prompt; a template adds too much,
            or the call divides documents that have one.
    """
    adapter = "CrossEncoder" if model.tokenizer.prompt is None else "CausalReranker"
    if call.query is None:
        raise _missing("query", adapter)
    documents = _present(call.documents, adapter)
    if model.modes:
        return _templated(model.entry, call, call.query, documents, most)
    if model.tokenizer.prompt is None:
        return call.query, documents, call.instruction
    for index, text in enumerate((call.query, *documents), -1):
        if not text or text.isspace():
            field = "query" if index < 0 else f"items[{index}]"
            raise SIEError(
                Code.INVALID_INPUT, f"CausalReranker adapter requires text input: '{field}.text' is blank", param=field
            )
    return call.query, documents, call.instruction


def _templated(
    entry: Entry, call: ScoreCall, query: str, documents: Items[str], most: int
) -> tuple[str, Items[str], str | None]:
    instruction = call.instruction
    try:
        if entry.query_template is not None:
            [query] = fill(entry.query_template, [query], instruction, entry.default_instruction, most)
            instruction = None
        if entry.doc_template is not None:
            if (call.long_documents or entry.long_documents) == "chunk_max":
                field = "options.long_documents"
                message = f"Field '{field}' can't be 'chunk_max': '{entry.id}' has a template around each document"
                raise SIEError(Code.INVALID_INPUT, message, param=field)
            documents = fill(entry.doc_template, documents, None, entry.default_instruction, most)
    except ValueError as error:
        raise SIEError(Code.INVALID_INPUT, f"The template of model '{entry.id}' {error}") from None
    return query, documents, instruction


def texts_to_encode(entry: Entry, call: EncodeCall, most: int) -> list[str]:
    """The texts in the call's template, or else in the model's.

    most: bytes of UTF-8 that the template may add to all texts together.

    Raises:
        SIEError: INVALID_INPUT, a text is missing, or the template is faulty or adds too much; `param` names the field.
    """
    texts = _present(cast(Items[str | None], call.texts), "Encoder")
    name, default = "doc_template", entry.doc_template
    if call.is_query:
        name, default = "query_template", entry.query_template
    template = default if call.template is None else call.template
    default_instruction = entry.default_instruction if call.default_instruction is None else call.default_instruction
    try:
        return fill(template, texts, call.instruction, default_instruction, most)
    except ValueError as error:
        raise FieldError(Code.INVALID_INPUT, f"params.options.{name}", str(error)) from None


def work_on(texts: Items[str]) -> int:
    """The number of sequences that take as long as copying these texts, or comparing them."""
    return max(len(texts), sum(map(len, texts)) // _CHARACTERS_PER_SEQUENCE)


def _present(texts: Items[str | None], adapter: str) -> Items[str]:
    if None in texts:
        raise _missing(f"items[{texts.index(None)}]", adapter)
    return cast(Items[str], texts)


def _missing(field: str, adapter: str) -> SIEError:
    return SIEError(Code.INVALID_INPUT, f"{adapter} adapter requires text input", param=f"{field}.text")
