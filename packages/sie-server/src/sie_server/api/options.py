"""Which template a request's texts go into: its own, or the model's."""

from sie_server import wire
from sie_server.catalog.catalog import Entry
from sie_server.errors import Code, SIEError
from sie_server.tokenization.text_templates import fill

_OPTIONS = ("instruction", "query_template", "doc_template", "default_instruction")


def around_texts(params: wire.EncodeParams) -> dict[str, str | None]:
    """What a request puts around each of its texts, by field."""
    options = params.options or wire.EncodeOptions()
    return {
        "params.instruction": params.instruction,
        **{f"params.options.{name}": getattr(options, name) for name in _OPTIONS},
    }


def is_query(params: wire.EncodeParams, options: wire.EncodeOptions) -> bool:
    """Whether the items are queries; what is not said to be one is a document."""
    return bool(params.is_query if options.is_query is None else options.is_query)


def written(
    texts: list[str], entry: Entry, params: wire.EncodeParams, options: wire.EncodeOptions, most: int
) -> list[str]:
    """The texts as the model reads them. `options`: those of the params, completed.

    Raises:
        SIEError: INVALID_INPUT, the request's template is none, or puts more than `most` bytes around all texts
            together; `param` names the field.
    """
    if is_query(params, options):
        name, asked, own = "query_template", options.query_template, entry.query_template
    else:
        name, asked, own = "doc_template", options.doc_template, entry.doc_template
    default = entry.default_instruction if options.default_instruction is None else options.default_instruction
    try:
        return fill(own if asked is None else asked, texts, params.instruction or options.instruction, default, most)
    except ValueError as error:
        field = f"params.options.{name}"
        raise SIEError(Code.INVALID_INPUT, f"Field '{field}' {error}", param=field) from None
