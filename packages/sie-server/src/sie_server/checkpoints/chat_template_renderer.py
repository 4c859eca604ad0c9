"""Program that renders a chat template in its own process, because a template is a program, too, and not trusted.

Reads one JSON object, `{"template", "context", "conversations"}`, from standard input, and writes a list with the text
of each conversation, or `{"error": …}`. Renders as transformers does, in the same environment with the same names
(`transformers.utils.chat_template_utils`), without access to the machine.
"""

import json
import resource
import sys
from typing import Any, NoReturn

CPU_S = 10
MEMORY_BYTES = 2**30
MAX_CHARACTERS = 2**22


# Jinja is imported where it renders: the server imports this module for its limits.


def _refuse(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _today(form: str) -> NoReturn:
    _refuse(f"it writes the date ({form!r}), so that a score would depend on the day")


def _json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def render(template: str, context: dict[str, Any], conversations: list[Any]) -> list[str]:
    """The text of each conversation.

    Raises:
        TemplateError: the template is invalid, or refuses a conversation.
    """
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _json
    environment.globals.update(raise_exception=_refuse, strftime_now=_today)
    made = environment.from_string(template)
    texts = [
        made.render(messages=messages, **{"tools": None, "documents": None, "add_generation_prompt": False, **context})
        for messages in conversations
    ]
    if sum(map(len, texts)) > MAX_CHARACTERS:
        _refuse(f"it expands a few words to more than {MAX_CHARACTERS:,} characters")
    return texts


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    answer: Any
    try:
        answer = render(**json.load(sys.stdin))
    except Exception as error:  # a template can raise anything
        answer = {"error": f"{type(error).__name__}: {error}"[:1000]}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
