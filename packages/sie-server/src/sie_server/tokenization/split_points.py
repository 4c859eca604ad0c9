"""Where a text can be parted so that its parts have the tokens of the whole."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tokenizers import Tokenizer

from sie_server.errors import UnsupportedModelError
from sie_server.tokenization.chat_template import ChatTemplate, Written
from sie_server.tokenization.prompt import instructed
from sie_server.tokenization.word_cache import encodings

# How texts begin and end that a token might take together with what stands beside them.
_TEXTS = (
    *("a", "Paris is", "ing", "A", " x", "  y", "\n", "\n\nx", "\t", "1", "007", ".", "...", ", so", "'s", "!", "?x"),
    *("中", "é", "\u0301x", "🐍", "-", "_", "<", "<b>", ">", ":", "://", "</s>", "<|im_end|>", ")", '"', "x ", "x\n"),
    *("x.", "x,", "x:", "x<", "x-", "x\r\n", "x\u00a0", "x'", "=", "x\u200b", "%", "\u3000"),
)
# Of the vocabulary, so many tokens are tried beside these.
_MORE = 200
# No further from the text than that: there is no need to go far.
_FAR = 64


@dataclass(frozen=True, slots=True)
class Parted:
    """A folder's chat template, parted for its tokenizer.

    lead: what stands in front of a document and is tokenized with it; tail: what is behind it and tokenized with it.
    after: ids of the rest. kept: ids of the tail where a document is cut, which the rest follows (sentence-transformers
    puts back what all texts end with).
    """

    template: ChatTemplate
    lead: str
    tail: str
    after: tuple[int, ...]
    kept: tuple[int, ...]

    def shared(self, query: str, instruction: str | None) -> list[str]:
        """What is in front of every document, up to where it can be parted."""
        written, filling = self.template.written(instruction)
        if instruction and not written.instructed:
            written, query = self.template.plain, instructed(query, instruction)
        before = written.before(query, filling)
        return [before[: len(before) - len(self.lead)]]

    def piece(self, document: str) -> str:
        """The document and what is tokenized with it."""
        return self.lead + (document.strip() if self._trims else document) + self.tail

    def origin(self, document: str) -> int:
        """Where the piece of a document begins in it, in code points."""
        return (len(document) - len(document.lstrip()) if self._trims else 0) - len(self.lead)

    @property
    def _trims(self) -> bool:
        return "document" in self.template.plain.trimmed


def parted(tokenizer: Tokenizer, template: ChatTemplate) -> Parted:
    """The template, parted at the places nearest to a document.

    Raises:
        UnsupportedModelError: there is none in front of it.
    """
    texts = [*_TEXTS, *_sample(tokenizer)]
    forms = [template.plain, template.with_instruction]
    front = min((form.front[-1][0] for form in forms), key=len)
    if any(not form.front[-1][0].endswith(front) for form in forms):
        raise UnsupportedModelError("the chat template writes something else before a document with an instruction")
    for lead in range(min(len(front), _FAR) + 1):
        if all(_parts_at(tokenizer, form, lead, texts) for form in forms):
            break
    else:
        raise UnsupportedModelError("the chat template has no place before a document where its tokens can be parted")
    behind = template.plain.behind
    for tail in range(len(behind) + 1):
        kept, rest = behind[:tail], behind[tail:]
        if all(
            _ids(tokenizer, text + behind) == _ids(tokenizer, text + kept) + _ids(tokenizer, rest) for text in texts
        ):
            break
    after = _ids(tokenizer, rest)
    ends = [_ids(tokenizer, template.plain.text(text, text)) for text in ("0", "1 2 3 4")]
    common = _common_end(*ends)
    return Parted(template, front[len(front) - lead :], kept, tuple(after), tuple(common[: len(common) - len(after)]))


def _parts_at(tokenizer: Tokenizer, form: Written, lead: int, texts: Iterable[str]) -> bool:
    """Whether no token goes over the place that is `lead` characters in front of the document, for any of the texts."""
    for query in ("what is it?", "a", "x\n"):
        before = form.before(query, "an instruction")
        at = len(before) - lead
        first = _ids(tokenizer, before[:at])
        for text in texts if query == "a" else _TEXTS:
            if _ids(tokenizer, before + text) != first + _ids(tokenizer, before[at:] + text):
                return False
    return True


def _sample(tokenizer: Tokenizer) -> Iterator[str]:
    size = tokenizer.get_vocab_size()
    for token in range(0, size, max(size // _MORE, 1)):
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
