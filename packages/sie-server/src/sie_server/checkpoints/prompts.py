"""The prompts of decoder rerankers: what stands around query and document, and which tokens answer."""

import logging
from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec

from sie_server.checkpoints.chat_template_file import chat_template_digest, read_chat_template, reads_messages
from sie_server.checkpoints.sentence_transformers import answers_hint
from sie_server.errors import UnsupportedModelError
from sie_server.tokenization.chat_template import ChatTemplate
from sie_server.tokenization.prompt import Prompt

_LOG = logging.getLogger(__name__)
# Names of prompts that are not in `prompts.toml`: none, and the folder's chat template.
PLAIN, OWN = "none", "chat-template"


@cache
def prompts() -> dict[str, Prompt]:
    """The prompts this server knows, by name."""
    text = files("sie_server.checkpoints").joinpath("prompts.toml").read_bytes()
    entries = msgspec.toml.decode(text, type=dict[str, dict[str, object]])
    return {name: msgspec.convert({"name": name, **fields}, Prompt) for name, fields in entries.items()}


def choose(name: str | None, architecture: str, folder: Path, classifier: bool) -> Prompt | ChatTemplate | None:
    """How a decoder reads a pair: by the prompt named, by the folder's own template, or plainly (None).

    A template that writes what a known prompt does is that prompt. A language model with the very template of
    conversations that a known reranker is published with has that reranker's prompt. Of a folder that says nothing,
    pairs are as its tokenizer joins them, as sentence-transformers has them, if it has a classifier or names its
    answers; else nobody could tell what it answers.

    Raises:
        UnsupportedModelError: there is no prompt of that name; the folder's template can't be used; nothing says how a
            language model reads a pair.
    """
    choices = ", ".join((PLAIN, OWN, *prompts()))
    if name == PLAIN:
        return None
    if name is not None and name != OWN:
        if name not in prompts():
            raise UnsupportedModelError(f"prompt {name!r} is not known; known: {choices}")
        return prompts()[name]
    if name is None and not classifier and answers_hint(folder) is None:
        digest = chat_template_digest(folder)
        published = next((prompt for prompt in prompts().values() if digest in prompt.published_with), None)
        if published is not None and architecture.startswith(published.architecture):
            _LOG.info("%s: its chat template is the one that %s models are published with", folder, published.name)
            return published
    if name == OWN or reads_messages(folder):
        try:
            template = read_chat_template(folder)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"{error}. Name the prompt that it was trained with: {choices}") from error
        return next(
            (prompt for prompt in prompts().values() if _same(prompt, template, architecture, folder)), template
        )
    if not classifier and answers_hint(folder) is None:
        raise UnsupportedModelError(
            f"nothing in {folder} says how this language model reads a query and a document: it has no chat template "
            f"and no LogitScore. Name the prompt that it was trained with: {choices}"
        )
    _LOG.info("%s: no chat template, so it reads pairs as its tokenizer joins them (prompt: %s)", folder, PLAIN)
    return None


def prompt_name(prompt: Prompt | ChatTemplate | None) -> str:
    """What to call it in lists and settings."""
    return PLAIN if prompt is None else OWN if isinstance(prompt, ChatTemplate) else prompt.name


def _same(prompt: Prompt, template: ChatTemplate, architecture: str, folder: Path) -> bool:
    """Whether the template writes what the prompt does."""
    if not architecture.startswith(prompt.architecture) or len(answers_hint(folder) or prompt.answers) != len(
        prompt.answers
    ):
        return False
    query, document, instruction = "a query", "a document", template.instruction
    variant, _ = template.variant(None)
    known = "".join((*prompt.shared(query, instruction), prompt.piece(document), *prompt.after))
    return known == variant.render(query, document, instruction)
