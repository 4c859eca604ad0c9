"""Options of a request: its own, its profile's, and those in its headers."""

import re
from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any, TypeVar, cast, get_args

import msgspec
from starlette.datastructures import Headers

from sie_server import wire
from sie_server.catalog.catalog import NO_DEFAULTS, Profile
from sie_server.engine.calls import EncodeCall
from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.errors import Code, SIEError
from sie_server.options import MODES, Comparison, LongDocuments, Muvera, Priority, ScoreMode
from sie_server.request_context import current_request
from sie_server.tokenization.config import LengthLimits

TIMEOUT = "X-Request-Timeout"
PRIORITY = "X-SIE-Priority"
_SECONDS = re.compile(r"\d{1,9}(\.\d{0,9})?", re.ASCII)
_PRIORITIES = get_args(Priority)
_AROUND_TEXTS = ("instruction", "query_template", "doc_template", "default_instruction")
_MAX_ENCODING_DIMS = 65536
# Bytes of a text that every item of a request gets.
_MAX_REPEATED_BYTES = 64 * 2**10
_OVERFLOW: dict[str | None, LongDocuments] = {"error": "error", "truncate_text": "truncate"}

T = TypeVar("T", bound=wire.Options)


@dataclass(frozen=True, slots=True)
class ScoreParams:
    """The parameters of a `ScoreCall` that options, profile and headers of its request give."""

    scheduling: SchedulingParams
    instruction: str | None
    limits: LengthLimits
    long_documents: LongDocuments | None
    comparison: Comparison


def score_params(
    headers: Headers,
    options: wire.ScoreOptions,
    profile: Profile,
    instruction: str | None,
    max_body_bytes: int,
    *,
    waits: bool = False,
) -> ScoreParams:
    """The parameters of a score request. instruction: wins over the one in the options. waits: as in
    `scheduling_params`.

    Raises:
        SIEError: INVALID_INPUT for a header or an option.
    """
    scheduling = scheduling_params(headers, waits=waits)
    # However many items there are, an instruction is read with the query alone.
    check_repeated({"instruction": instruction, "options.instruction": options.instruction}, 1, max_body_bytes)
    return merged_score_params(scheduling, options, profile, instruction)


def merged_score_params(
    scheduling: SchedulingParams, options: wire.ScoreOptions, profile: Profile, instruction: str | None
) -> ScoreParams:
    """The parameters of a score by these options, completed by the profile. instruction: wins over theirs.

    Raises:
        SIEError: INVALID_INPUT for an option.
    """
    merged = with_profile(options, profile)
    return ScoreParams(
        scheduling,
        instruction or merged.instruction,
        length_limits(merged),
        options.long_documents or _overflow(options) or profile.long_documents,
        _comparison(merged, profile),
    )


def encode_call(
    model_id: str,
    texts: Items[str | None] | Items[list[int]],
    outputs: Items[str],
    options: wire.EncodeOptions,
    *,
    is_query: bool,
    instruction: str | None = None,
    **more: Any,
) -> EncodeCall:
    """The call for embeddings by these options, completed by a profile. instruction: wins over theirs.

    more: fields of the call that options do not decide alone.
    """
    return EncodeCall(
        model_id=model_id,
        texts=texts,
        outputs=outputs,
        is_query=is_query,
        template=options.query_template if is_query else options.doc_template,
        instruction=instruction or options.instruction,
        default_instruction=options.default_instruction,
        limits=length_limits(options),
        pooling=options.pooling,
        normalize=options.normalize is not False,
        **more,
    )


def scheduling_params(headers: Headers, *, waits: bool = False) -> SchedulingParams:
    """The scheduling parameters in the headers of the current request.

    waits: the priority is that of a batch unless a header has another.

    Raises:
        SIEError: INVALID_INPUT, a header has no valid value.
    """
    timeout, priority = headers.get(TIMEOUT), headers.get(PRIORITY, "batch" if waits else "normal").lower()
    if timeout is not None and not _SECONDS.fullmatch(timeout):
        raise SIEError(
            Code.INVALID_INPUT, f"Header '{TIMEOUT}' must be a number of seconds, such as 2.5; it is {timeout[:100]!r}"
        )
    if priority not in _PRIORITIES:
        raise SIEError(Code.INVALID_INPUT, f"Header '{PRIORITY}' must be one of {', '.join(_PRIORITIES)}")
    context = current_request()
    deadline = None if timeout is None else context.started + float(timeout)
    return SchedulingParams(context.client, cast(Priority, priority), deadline)


def with_profile(options: T, profile: Profile) -> T:
    """The options, with those that the request leaves open taken from its profile."""
    if profile is NO_DEFAULTS:
        return options
    profile_values = ((name, getattr(profile, name)) for name in profile.__struct_fields__)
    missing = {
        name: value for name, value in profile_values if value is not None and getattr(options, name, ...) is None
    }
    return msgspec.structs.replace(options, **missing) if missing else options


def length_limits(options: wire.Options) -> LengthLimits:
    """The limits in the options."""
    long_documents = _overflow(options) or "truncate"
    return LengthLimits(
        options.max_seq_length,
        options.query_max_length,
        long_documents,
        document=getattr(options, "max_document_length", None),
        side=options.truncation_side or "right",
    )


def _overflow(options: wire.Options) -> LongDocuments | None:
    """The treatment of long documents by the overflow policy; None if the policy does not say."""
    return _OVERFLOW.get(options.overflow_policy)


def _comparison(options: wire.ScoreOptions, profile: Profile) -> Comparison:
    """The comparison of embeddings that the options choose, or else a profile of one output.

    Raises:
        SIEError: INVALID_INPUT, all weights are zero.
    """
    mode = options.score_mode
    if mode is None and profile.output_types is not None and len(profile.output_types) == 1:
        mode = MODES.get(profile.output_types[0])
    if options.score_weights is None:
        return Comparison(mode)
    parts = options.score_weights
    weights: dict[ScoreMode, float] = {"dense": parts.dense, "sparse": parts.sparse, "colbert": parts.colbert}
    if not any(weights.values()):
        raise SIEError(Code.INVALID_INPUT, "Field 'options.score_weights' must have at least one weight above zero")
    return Comparison(mode, weights)


def check_repeated(fields: Mapping[str, str | None], items: int, max_body_bytes: int) -> None:
    """For templates and instructions, which every item gets: together they must not be more than a body may hold.

    Raises:
        SIEError: INVALID_INPUT, a field is over its share of the limit for `items` items, or over 64 KiB.
    """
    limit = min(_MAX_REPEATED_BYTES, max_body_bytes // items)
    for field, text in fields.items():
        if text is not None and len(text) * 4 > limit and len(text.encode()) > limit:
            raise SIEError(
                Code.INVALID_INPUT,
                f"Field '{field}' must hold at most {limit} bytes of UTF-8 text in a request of {items} items",
                param=field,
            )


def around_texts(params: wire.EncodeParams) -> dict[str, str | None]:
    """The fields that a request puts around each of its texts, by path."""
    options = params.options or wire.EncodeOptions()
    return {
        "params.instruction": params.instruction,
        **{f"params.options.{name}": getattr(options, name) for name in _AROUND_TEXTS},
    }


def is_query(params: wire.EncodeParams, options: wire.EncodeOptions) -> bool:
    """Whether the items are queries; by default they are documents."""
    return bool(params.is_query if options.is_query is None else options.is_query)


def check_muvera(muvera: Muvera | None) -> None:
    """Raises SIEError: INVALID_INPUT, the encoding has too many dimensions."""
    if muvera is not None and muvera.dims > _MAX_ENCODING_DIMS:
        field = "params.options.muvera"
        raise SIEError(
            Code.INVALID_INPUT,
            f"Field '{field}' makes vectors of {muvera.dims} dimensions; the limit is {_MAX_ENCODING_DIMS}",
            param=field,
        )
