"""Cohere's answers: floats alone, or the vectors of all texts by type."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from sie_server.api.dialects.cohere import ApiVersion
from sie_server.api.dialects.dialect import Written
from sie_server.api.embed_dialects.dialect import Embedded, EmbedDialect
from sie_server.api.embed_dialects.vectors import cut, encoded, numbers

_Rows = Annotated[list[Any], Meta(extra_json_schema={"items": {"type": "array", "items": {"type": "number"}}})]


class BilledTokens(Struct):
    input_tokens: int


class EmbedMeta(Struct):
    api_version: ApiVersion
    billed_units: BilledTokens
    warnings: list[str] | UnsetType = UNSET


class VectorsByType(Struct):
    """The vectors of all texts, in each type that the request asks for."""

    float_: _Rows | UnsetType = field(default=UNSET, name="float")
    int8: _Rows | UnsetType = UNSET
    uint8: _Rows | UnsetType = UNSET
    binary: _Rows | UnsetType = UNSET
    ubinary: _Rows | UnsetType = UNSET
    base64: list[str] | UnsetType = UNSET


class CohereEmbeddings(Struct):
    """`embeddings`: by type if the request names types, or always in version 2; otherwise the floats."""

    id: str
    embeddings: VectorsByType | _Rows
    texts: list[str]
    meta: EmbedMeta
    response_type: Literal["embeddings_by_type", "embeddings_floats"] = "embeddings_by_type"


def _cohere(embedded: Embedded, version: str) -> Written:
    want = embedded.want
    forms: dict[str, list[Any]] = {form.kind: [] for form in want.forms}
    for index, vector in embedded.outputs():
        for form in want.forms:
            found = numbers(cut(vector, want.dims), form, f"{embedded.field}[{index}]")
            forms[form.kind].append(encoded(found) if form.base64 else found)
    by_type = version == "2" or want.named
    vectors = VectorsByType(**{_ATTRIBUTES.get(kind, kind): rows for kind, rows in forms.items()})
    body = CohereEmbeddings(
        embedded.id,
        vectors if by_type else forms["float"],
        [],
        EmbedMeta(ApiVersion(version), BilledTokens(embedded.tokens), embedded.warnings or UNSET),
        "embeddings_by_type" if by_type else "embeddings_floats",
    )
    return Written(body, "texts", iter(embedded.texts))


_ATTRIBUTES = {"float": "float_"}
COHERE_V1 = EmbedDialect("cohere", lambda made: _cohere(made, "1"), CohereEmbeddings, "texts", several=True)
COHERE_V2 = EmbedDialect("cohere", lambda made: _cohere(made, "2"), CohereEmbeddings, "texts", several=True)
