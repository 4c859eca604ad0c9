"""Reads the body of any embedding API as one neutral request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from msgspec import Raw

from sie_server import codec
from sie_server.api.dialects.field_reader import FieldReader, given_fields, refuse, text_of, wrong
from sie_server.api.embed_dialects.dialect import EmbedDialect
from sie_server.api.embed_dialects.fields import MUST, REFUSED, TEXTS, EmbeddingsRequest, EmbedFields
from sie_server.api.embed_dialects.token_ids import TokenIdReader
from sie_server.api.embed_dialects.wanted import Wanted, wanted
from sie_server.errors import Code, SIEError
from sie_server.http.body import BodyReader
from sie_server.http.ignored_fields import ignored_fields
from sie_server.large_bodies.outline import Body
from sie_server.large_bodies.reader import Reader

_READER = FieldReader(EmbedFields, MUST)
Texts = list[str] | list[list[int]]


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """An embedding request, whichever API it came in.

    model: None for the server's default. field: of the texts. waits: the client can wait. ignored: names of the fields
    that nothing reads.
    """

    model: str | None
    field: str
    texts: Texts
    want: Wanted
    instruction: str | None
    ignored: list[str]
    waits: bool = False


class OpenAIReader:
    """Reads the body of OpenAI's own route, in one typed pass."""

    def __init__(self, dialect: EmbedDialect, bodies: BodyReader, token_ids: TokenIdReader) -> None:
        self._dialect = dialect
        self._bodies = bodies
        self._token_ids = token_ids

    def whole(self, raw: Body) -> EmbedRequest:
        """The request of a small body."""
        body = codec.decode(raw, EmbeddingsRequest, msgpack=False, invalid=Code.UNPROCESSABLE)
        return self._request(body, codec.decode(raw, dict[str, Raw], msgpack=False))

    def pieces(self, reader: Reader) -> EmbedRequest:
        """The request of a large body."""
        body = reader.beside(EmbeddingsRequest)
        if reader.has_list:
            body.input = list(reader.elements())
        return self._request(body, reader.beside(dict[str, Raw]))

    def _request(self, body: EmbeddingsRequest, fields: Mapping[str, Raw]) -> EmbedRequest:
        texts = _checked_texts(body.input, "input", self._bodies, self._token_ids)
        want = wanted(body, self._dialect.output)
        _check_supported(fields)
        ignored = ignored_fields(fields, EmbeddingsRequest)
        return EmbedRequest(body.model, "input", texts, want, body.instruction, ignored)


class EmbedReader:
    """Reads bodies in the fields of any API, each on its own."""

    def __init__(self, dialect: EmbedDialect, bodies: BodyReader, token_ids: TokenIdReader) -> None:
        self._dialect = dialect
        self._bodies = bodies
        self._token_ids = token_ids

    def whole(self, raw: Body) -> EmbedRequest:
        """The request of a small body."""
        return self.request(codec.decode(raw, dict[str, Raw], msgpack=False), None)

    def pieces(self, reader: Reader) -> EmbedRequest:
        """The request of a large body."""
        return self.request(reader.beside(dict[str, Raw]), reader)

    def request(self, fields: Mapping[str, Raw], reader: Reader | None) -> EmbedRequest:
        """The request with these fields; of a large body, `reader` has the list and the long texts.

        Raises:
            SIEError: INVALID_INPUT, with the field that is wrong as `param`.
        """
        dialect, given = self._dialect, given_fields(fields)
        if given.get("dimensions") == Raw(b"0"):  # which infinity's client sends by default
            del given["dimensions"]
        ignored = ignored_fields(given, EmbedFields)
        _check_supported(given)
        body = _READER.read({name: raw for name, raw in given.items() if name in EmbedFields.__struct_fields__})
        if reader is not None:
            reader.filled(body)
            if reader.has_list:
                setattr(body, reader.listed.field, list(reader.elements()))
        field = next((name for name in TEXTS if getattr(body, name) is not None), dialect.texts)
        value = getattr(body, field)
        for name in TEXTS:
            if getattr(body, name) not in (None, value):
                raise wrong(name, f"has other texts than '{field}'")
        if value is None:
            raise wrong(field, f"is missing; it {MUST[field]}")
        return EmbedRequest(
            None if body.model in ("", "default") else body.model,
            field,
            _checked_texts(value, field, self._bodies, self._token_ids),
            wanted(body, dialect.output, dialect.tasks, several=dialect.several),
            body.instruction,
            ignored,
            (body.priority or 0) > 0,
        )


def _check_supported(given: Mapping[str, Raw]) -> None:
    """Raises SIEError: INVALID_INPUT, a field asks for an answer that there is not here."""
    refuse(given, REFUSED)
    if given.get("add_special_tokens") == Raw(b"false"):
        raise wrong("add_special_tokens", "cannot be false: models are given their special tokens")


def _checked_texts(value: str | list[Any], field: str, bodies: BodyReader, token_ids: TokenIdReader) -> Texts:
    """One text per embedding, none of them empty."""
    kinds = {str} if isinstance(value, str) else {type(text) for text in value}
    if len(kinds) > 1:
        message = f"Field '{field}' must be a text, a list of texts, a list of token ids, or a list of such lists"
        raise SIEError(Code.INVALID_INPUT, message, param=field)
    alone = isinstance(value, str) or kinds == {int}
    texts: list[Any] = [value] if alone else cast(list[Any], value)
    bodies.check_count(len(texts), field, "texts")
    for index, text in enumerate(texts):
        at = field if alone else f"{field}[{index}]"
        if isinstance(text, dict):
            texts[index] = text = text_of(text, at)
        if not text:
            raise SIEError(Code.INVALID_INPUT, f"Field '{at}' must not be empty", param=field)
        if isinstance(text, list):
            texts[index] = text = token_ids.read(text, at)
        if isinstance(text, str):
            bodies.check_size(text, at)
    return texts
