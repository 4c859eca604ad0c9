"""Chat templates split where the parts tokenize to the same ids as the whole."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tokenizers import Tokenizer

from sie_server.errors import UnsupportedModelError
from sie_server.tokenization.chat_template import ChatTemplate, PairTemplate
from sie_server.tokenization.prompt import instructed
from sie_server.tokenization.word_cache import encodings

# Beginnings and ends of texts that a tokenizer might merge with their surroundings.
_PROBES = (
    *("a", "Paris is", "ing", "A", " x", "  y", "\n", "\n\nx", "\t", "1", "007", ".", "...", ", so", "'s", "!", "?x"),
    *("中", "é", "\u0301x", "🐍", "-", "_", "<", "<b>", ">", ":", "://", "</s>", "<|im_end|>", ")", '"', "x ", "x\n"),
    *("x.", "x,", "x:", "x<", "x-", "x\r\n", "x\u00a0", "x'", "=", "x\u200b", "%", "\u3000"),
)
# Further probes, taken from the vocabulary.
_SAMPLED_TOKENS = 200
# Longest lead tried, in characters.
_MAX_LEAD = 64


@dataclass(frozen=True, slots=True)
class SplitChatTemplate:
    """A checkpoint's chat template, split around the document.

    lead: text in front of the document that is tokenized together with it.
    tail: text after the document that is tokenized together with it.
    after: token ids of the text behind the tail.
    kept: token ids of the tail, put between a truncated document and `after` (as sentence-transformers does, which
        restores the common ending of all texts).
    """

    template: ChatTemplate
    lead: str
    tail: str
    after: tuple[int, ...]
    kept: tuple[int, ...]

    def shared(self, query: str, instruction: str | None) -> list[str]:
        """Text in front of every document, without the lead."""
        variant, filling = self.template.variant(instruction)
        if instruction and not variant.has_instruction_slot:
            variant, query = self.template.plain, instructed(query, instruction)
        before = variant.prefix(query, filling)
        return [before[: len(before) - len(self.lead)]]

    def piece(self, document: str) -> str:
        """The document with its lead and tail."""
        return self.lead + (document.strip() if self._strips else document) + self.tail

    def origin(self, document: str) -> int:
        """Offset, in code points of the document, at which `piece(document)` begins; negative with a lead."""
        return (len(document) - len(document.lstrip()) if self._strips else 0) - len(self.lead)

    @property
    def _strips(self) -> bool:
        return "document" in self.template.plain.stripped


def split_chat_template(tokenizer: Tokenizer, template: ChatTemplate) -> SplitChatTemplate:
    """Split a template as close to the document as the tokenizer allows.

    Raises:
        UnsupportedModelError: there is no such place in front of the document.
    """
    texts = [*_PROBES, *_sample(tokenizer)]
    forms = [template.plain, template.with_instruction]
    front = min((form.segments[-1][0] for form in forms), key=len)
    if any(not form.segments[-1][0].endswith(front) for form in forms):
        raise UnsupportedModelError(
            "the chat template puts other text in front of the document where there is an instruction"
        )
    for lead in range(min(len(front), _MAX_LEAD) + 1):
        if all(_splits_at(tokenizer, form, lead, texts) for form in forms):
            break
    else:
        raise UnsupportedModelError(
            "the chat template can't be split in front of the document without changing its tokens"
        )
    suffix = template.plain.suffix
    for tail in range(len(suffix) + 1):
        kept, rest = suffix[:tail], suffix[tail:]
        if all(
            _ids(tokenizer, text + suffix) == _ids(tokenizer, text + kept) + _ids(tokenizer, rest) for text in texts
        ):
            break
    after = _ids(tokenizer, rest)
    ends = [_ids(tokenizer, template.plain.render(text, text)) for text in ("0", "1 2 3 4")]
    common = _common_end(*ends)
    return SplitChatTemplate(
        template, front[len(front) - lead :], kept, tuple(after), tuple(common[: len(common) - len(after)])
    )


def _splits_at(tokenizer: Tokenizer, form: PairTemplate, lead: int, texts: Iterable[str]) -> bool:
    """Whether, for all texts, no token spans the place `lead` characters in front of the document."""
    for query in ("what is it?", "a", "x\n"):
        before = form.prefix(query, "an instruction")
        at = len(before) - lead
        first = _ids(tokenizer, before[:at])
        for text in texts if query == "a" else _PROBES:
            if _ids(tokenizer, before + text) != first + _ids(tokenizer, before[at:] + text):
                return False
    return True


def _sample(tokenizer: Tokenizer) -> Iterator[str]:
    size = tokenizer.get_vocab_size()
    for token in range(0, size, max(size // _SAMPLED_TOKENS, 1)):
        if text := tokenizer.decode([token], skip_special_tokens=False):
            yield text


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    [encoding] = encodings(tokenizer, [text])
    return encoding.ids


def _common_end(first: list[int], second: list[int]) -> list[int]:
    count = 0
    while count < min(len(first), len(second)) and first[-1 - count] == second[-1 - count]:
        count += 1
    return first[len(first) - count :]
