"""The fields of embedding requests in any API."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from sie_server.wire import Positive

EncodingFormat = Literal["float", "base64"]
VectorType = Literal["float", "int8", "uint8", "binary", "ubinary"]
EmbeddingType = VectorType | Literal["base64"]
# The elements of a list must have one type, which a msgspec union cannot express; the route checks it.
EmbeddingsElement = str | int | list[int]
EmbeddingsInput = str | list[EmbeddingsElement]


class EmbeddingFields(Struct, kw_only=True):
    """The fields of embedding requests in any API, but for their texts.

    `dimensions`, `output_dimension`, `dimension`: truncate vectors to this width and normalize them; only for models
    that were trained for it. `output_dtype`, `embedding_type`, `embedding_types`: the type of the numbers; "binary" and
    "ubinary" have eight dimensions in a number, as int8 and uint8. `input_type`, `task`, `prompt_name`: whether the
    texts are queries or documents, for a model that reads them differently. `truncation`, `truncate`: refuse a text
    over the length limit if false or "NONE". `truncate` "START", `truncation_direction`, `truncation_side` "left": cut
    it at the left. `truncate_prompt_tokens`, `max_tokens`: the length limit, -1 for the model's own. `normalize`,
    `normalized`, `use_activation`: whether vectors have length 1.
    """

    dimensions: Positive | None = None
    output_dimension: Positive | None = None
    dimension: Positive | None = None
    output_dtype: VectorType | None = None
    embedding_type: EmbeddingType | list[EmbeddingType] | None = None
    embedding_types: list[EmbeddingType] | None = None
    input_type: str | None = None
    task: str | None = None
    prompt_name: str | None = None
    instruction: str | None = None
    truncation: bool | None = None
    truncate: bool | str | None = None
    truncation_direction: str | None = None
    truncation_side: str | None = None
    truncate_prompt_tokens: Annotated[int, Meta(ge=-1)] | None = None
    max_tokens: Positive | None = None
    normalize: bool | None = None
    normalized: bool | None = None
    use_activation: bool | None = None
    late_chunking: bool | None = None


class EmbeddingsRequest(EmbeddingFields, kw_only=True):
    """Body of `POST /v1/embeddings`.

    `input`: a text, a list of texts, or token ids for one text or several, as `--token-ids` allows.
    """

    model: str
    input: EmbeddingsInput
    encoding_format: EncodingFormat | None = None


EmbedText = str | int | list[int] | dict[str, Any]


class EmbedFields(EmbeddingFields, kw_only=True):
    """Body of an embedding request, in the fields of any API. One of the texts is required.

    `input`, `inputs`, `texts`: a text, or a list of texts, which may be objects with a text; or token ids, as
    `--token-ids` allows. `encoding_format`: "base64", or a type of the numbers. `priority`: above 0, the request can
    wait. `parameters`: any of the other fields.
    """

    model: str | None = None
    input: str | list[EmbedText] | None = None
    inputs: str | list[EmbedText] | None = None
    texts: str | list[EmbedText] | None = None
    encoding_format: EmbeddingType | list[EmbeddingType] | None = None
    priority: int | None = None
    parameters: dict[str, Any] | None = None


# Fields that hold the texts.
TEXTS = ("input", "inputs", "texts")
# Fields that ask for another answer unless they are false or empty. Others that nothing reads are named in the answer.
REFUSED = frozenset(
    {
        *("images", "image", "messages", "prompt", "return_multivector", "chat_template_kwargs"),
        *("embed_dtype", "endianness"),
    }
)
MUST = {
    "model": "must be a string",
    **dict.fromkeys(TEXTS, "must be a text, a list of texts, or a list of objects with a text"),
    **dict.fromkeys(("dimensions", "output_dimension", "dimension", "max_tokens"), "must be a positive integer"),
}
