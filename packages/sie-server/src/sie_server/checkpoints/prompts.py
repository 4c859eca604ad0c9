"""Chooses the prompt of a decoder reranker: the text around query and document, and the answer tokens."""

import logging
from functools import cache
from importlib.resources import files

import msgspec

from sie_server.checkpoints.chat_template_file import chat_template_digest, read_chat_template, reads_messages
from sie_server.checkpoints.checkpoint import Checkpoint
from sie_server.checkpoints.sentence_transformers import answers_hint
from sie_server.errors import UnsupportedModelError
from sie_server.tokenization.chat_template import ChatTemplate
from sie_server.tokenization.prompt import Prompt

_LOG = logging.getLogger(__name__)
# Names of the choices that are not in `prompts.toml`: no prompt, and the checkpoint's own chat template.
PLAIN, OWN = "none", "chat-template"


@cache
def prompts() -> dict[str, Prompt]:
    """The known prompts, by name."""
    text = files("sie_server.checkpoints").joinpath("prompts.toml").read_bytes()
    entries = msgspec.toml.decode(text, type=dict[str, dict[str, object]])
    return {name: msgspec.convert({"name": name, **fields}, Prompt) for name, fields in entries.items()}


def choose(
    name: str | None, architecture: str, checkpoint: Checkpoint, classifier: bool
) -> Prompt | ChatTemplate | None:
    """The prompt with which a decoder reads a pair; None: the pair as the tokenizer joins it.

    Without a name, the checkpoint decides. A template that writes the same text as a known prompt is that prompt. A
    language model with the chat template that a known reranker is published with has that reranker's prompt. A
    checkpoint without a template has no prompt if it has a classifier or names its answers, as in
    sentence-transformers; otherwise its answers would be a guess.

    classifier: whether the checkpoint has one.

    Raises:
        UnsupportedModelError: there is no prompt of that name; the checkpoint's template can't be used; nothing says
            how a language model reads a pair.
    """
    choices = ", ".join((PLAIN, OWN, *prompts()))
    if name == PLAIN:
        return None
    if name is not None and name != OWN:
        if name not in prompts():
            raise UnsupportedModelError(f"prompt {name!r} is not known; known: {choices}")
        return prompts()[name]
    if name is None and not classifier and answers_hint(checkpoint) is None:
        digest = chat_template_digest(checkpoint)
        published = next((prompt for prompt in prompts().values() if digest in prompt.published_with), None)
        if published is not None and architecture.startswith(published.architecture):
            _LOG.info("%s: has the chat template with which %s is published", checkpoint.folder, published.name)
            return published
    if name == OWN or reads_messages(checkpoint):
        try:
            template = read_chat_template(checkpoint)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"{error}. Name the prompt that it was trained with: {choices}") from error
        return next(
            (prompt for prompt in prompts().values() if _same(prompt, template, architecture, checkpoint)), template
        )
    if not classifier and answers_hint(checkpoint) is None:
        raise UnsupportedModelError(
            f"nothing in {checkpoint.folder} says how this language model reads a query and a document: it has no chat "
            f"template and no LogitScore. Name the prompt that it was trained with: {choices}"
        )
    _LOG.info("%s: no chat template; pairs are read as its tokenizer joins them (prompt: %s)", checkpoint.folder, PLAIN)
    return None


def prompt_name(prompt: Prompt | ChatTemplate | None) -> str:
    """Name of a prompt in lists and settings."""
    return PLAIN if prompt is None else OWN if isinstance(prompt, ChatTemplate) else prompt.name


def _same(prompt: Prompt, template: ChatTemplate, architecture: str, checkpoint: Checkpoint) -> bool:
    """Whether the template writes the same text as the prompt."""
    answers = answers_hint(checkpoint) or prompt.answers
    if not architecture.startswith(prompt.architecture) or len(answers) != len(prompt.answers):
        return False
    query, document, instruction = "a query", "a document", template.instruction
    variant, _ = template.variant(None)
    known = "".join((*prompt.shared(query, instruction), prompt.piece(document), *prompt.after))
    return known == variant.render(query, document, instruction)
