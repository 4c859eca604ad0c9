"""What an encoder reads in the place of a text: the template it was trained with, filled."""

from collections.abc import Iterable, Sequence
from string import Formatter

_SLOTS = ("instruction", "text")


def fill(
    template: str | None,
    texts: Sequence[str],
    instruction: str | None,
    default: str | None = None,
    most: int | None = None,
) -> list[str]:
    """Each text in the `{text}` slot of a template such as `"Instruct: {instruction}\\nQuery: {text}"`.

    The instruction, or else the `default`, fills the slot of that name; without the slot an instruction stands in front
    with one space between, and the default nowhere. No template is `"{text}"`. `{{` and `}}` are braces.

    most: bytes of UTF-8 that are put around the texts, all together.

    Raises:
        ValueError: the template has another slot, or not exactly one for the text, or it makes more than `most` of what
            fills it. The message goes behind its name.
    """
    parts = _parts("{text}" if template is None else template)
    slots = [slot for _, slot in parts]
    if slots.count("text") != 1:
        raise ValueError(f"must have the slot {{text}} once, not {slots.count('text')} times")
    if "instruction" in slots:
        front = ""
        given = instruction or default or ""
    else:
        front = f"{instruction} " if instruction else ""
        given = ""
    each = _bytes(front) + sum(_bytes(literal) for literal, _ in parts) + slots.count("instruction") * _bytes(given)
    if most is not None and each * len(texts) > most:
        raise ValueError(
            f"puts {each:,} bytes around each of {len(texts):,} texts, its instruction included; "
            f"the limit for all together is {most:,} (--max-rendered-bytes)"
        )
    at = slots.index("text")
    before = front + _joined(parts[:at], given) + parts[at][0]
    after = _joined(parts[at + 1 :], given)
    return [before + text + after for text in texts]


def _parts(template: str) -> list[tuple[str, str | None]]:
    """Literal text and the slot behind it, in turns. Parsed, not formatted: `format` can reach into objects."""
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"is malformed: {error}") from None
    for _, slot, spec, conversion in parsed:
        if slot is not None and (slot not in _SLOTS or spec or conversion):
            written = slot + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise ValueError(f"has the slot {{{written}}}; slots are {{instruction}} and {{text}}")
    return [(literal, slot) for literal, slot, _, _ in parsed]


def _joined(parts: Iterable[tuple[str, str | None]], instruction: str) -> str:
    return "".join(literal + (instruction if slot == "instruction" else "") for literal, slot in parts)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
