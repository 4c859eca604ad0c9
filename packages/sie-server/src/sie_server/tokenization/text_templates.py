"""Text templates of encoders, such as `"query: {text}"`."""

from collections.abc import Iterable, Sequence
from string import Formatter

_SLOTS = ("instruction", "text")


def fill(
    template: str | None,
    texts: Sequence[str],
    instruction: str | None,
    default: str | None = None,
    max_bytes: int | None = None,
) -> list[str]:
    """Put each text into the `{text}` slot of a template such as `"Instruct: {instruction}\\nQuery: {text}"`.

    The instruction, or else `default`, fills the slot `{instruction}`. In a template without that slot, an instruction
    is put in front, followed by a space, and the default is not used. `{{` and `}}` stand for braces.

    template: None means `"{text}"`.
    max_bytes: limit on the UTF-8 bytes added around all texts together; None: unlimited.

    Raises:
        ValueError: the template has an unknown slot, does not have exactly one `{text}`, or would add more than
            `max_bytes`. The message is meant to follow the name of the template's field.
    """
    parts = _parts("{text}" if template is None else template)
    slots = [slot for _, slot in parts]
    if slots.count("text") != 1:
        raise ValueError(f"must contain {{text}} exactly once, not {slots.count('text')} times")
    if "instruction" in slots:
        front = ""
        filling = instruction or default or ""
    else:
        front = f"{instruction} " if instruction else ""
        filling = ""
    literals = sum(_bytes(literal) for literal, _ in parts)
    added = _bytes(front) + literals + slots.count("instruction") * _bytes(filling)
    if max_bytes is not None and added * len(texts) > max_bytes:
        raise ValueError(
            f"adds {added:,} bytes, including the instruction, to each of {len(texts):,} texts; "
            f"the limit for all texts together is {max_bytes:,} (--max-rendered-bytes)"
        )
    at = slots.index("text")
    before = front + _joined(parts[:at], filling) + parts[at][0]
    after = _joined(parts[at + 1 :], filling)
    return [before + text + after for text in texts]


def _parts(template: str) -> list[tuple[str, str | None]]:
    """Split a template into literals, each with the slot that follows it. `str.format` would allow attribute access."""
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"is malformed: {error}") from None
    for _, slot, spec, conversion in parsed:
        if slot is not None and (slot not in _SLOTS or spec or conversion):
            unknown = slot + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise ValueError(f"has the slot {{{unknown}}}; the slots are {{instruction}} and {{text}}")
    return [(literal, slot) for literal, slot, _, _ in parsed]


def _joined(parts: Iterable[tuple[str, str | None]], instruction: str) -> str:
    return "".join(literal + (instruction if slot == "instruction" else "") for literal, slot in parts)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
