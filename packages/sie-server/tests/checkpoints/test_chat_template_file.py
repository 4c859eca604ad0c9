"""A folder's own template and prompts are read as sentence-transformers reads them; none is guessed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from sie_server.catalog.catalog import Entry, shipped, with_models
from sie_server.checkpoints.chat_template_file import read_chat_template
from sie_server.checkpoints.checkpoint import Checkpoint
from sie_server.checkpoints.load import load
from sie_server.checkpoints.prompts import choose, prompt_name
from sie_server.errors import UnsupportedModelError
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.packed import Packed
from sie_server.tokenization.config import LengthLimits
from sie_server.tokenization.sequence import Sequence
from sie_testing.checkpoints import build
from sie_testing.loads import CPU, refusal

QUERY = "what is python"
DOCUMENTS = ["python is a language", "snakes are reptiles", " w7 w8  w9 \n", "yes", "w1 " * 700]
ROLE = "{{{{ messages | selectattr('role', 'eq', '{0}') | map(attribute='content') | first }}}}"
QUERY_SLOT, DOCUMENT_SLOT = ROLE.format("query"), ROLE.format("document")
LOOP = (
    "{% for message in messages %}{% if message.role == 'system' %}<{{ message.content }}> "
    "{% elif message.role == 'query' %}w1 {{ message.content | trim }} w2\n"
    "{% elif message.role == 'document' %}w3 {{ message.content | trim }} w4 w5{% endif %}{% endfor %}"
)
TEMPLATES = {
    "short": f"w1: {QUERY_SLOT}\nw2: {DOCUMENT_SLOT}",
    "behind": f"w1 {QUERY_SLOT} w2 {DOCUMENT_SLOT} w3 w4 w5",
    "trimmed": LOOP,
    "generation": "{{ bos_token }}" + LOOP + "{% if add_generation_prompt %} w9{% endif %}",
    "twice": f"{QUERY_SLOT} w1 {QUERY_SLOT} w2 {DOCUMENT_SLOT}",
    "parts": "{% for m in messages %}{{ m.role }} {% for part in m.content %}{% if part.type == 'text' %}"
    "{{ part.text }}{% endif %}{% endfor %} w1 {% endfor %}",
}


@torch.inference_mode()
def scores(model: LoadedModel, sequences: list[Sequence]) -> list[float]:
    assert model.encoder.head is not None
    prefix = sequences[0].prefix
    every = sequences if prefix is None else [prefix.sequence, *sequences]
    return model.encoder.head(*model.encoder(Packed.of(every, CPU)), every)[-len(sequences) :]


def saved(tmp_path: Path, kind: str, template: str | None, **arguments: Any) -> tuple[Path, CrossEncoder]:
    build(tmp_path / "source", kind)
    (tmp_path / "source" / "chat_template.jinja").unlink(missing_ok=True)
    if template is not None:
        (tmp_path / "source" / "chat_template.jinja").write_text(template)
    reference = CrossEncoder(str(tmp_path / "source"), device="cpu", activation_fn=torch.nn.Identity(), **arguments)
    reference.save_pretrained(str(tmp_path / "saved"))
    return tmp_path / "saved", CrossEncoder(str(tmp_path / "saved"), device="cpu")


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("kind", ["qwen3-classifier", "qwen3"])
def test_scores_are_those_of_sentence_transformers(kind: str, template: str, tmp_path: Path) -> None:
    folder, reference = saved(tmp_path, kind, template)
    model = load(Entry("m", folder=folder), CPU, "float32")
    assert model.entry.prompt == "chat-template"
    for instruction in (None, "w40 w41"):
        if instruction is not None and "system" not in template and "m.role" not in template:
            continue
        theirs = reference.predict([(QUERY, document) for document in DOCUMENTS], prompt=instruction)
        sequences = model.tokenizer.encode_pairs(QUERY, DOCUMENTS, instruction=instruction)
        np.testing.assert_allclose(scores(model, sequences), theirs, rtol=0, atol=1e-4)
        assert [sequence.truncated for sequence in sequences] == [False] * 4 + [True]


def test_settings_of_the_template_and_the_default_prompt_are_read(tmp_path: Path) -> None:
    prompts = {"prompts": {"task": "w50 w51"}, "default_prompt_name": "task"}
    folder, _ = saved(tmp_path, "qwen3-classifier", TEMPLATES["generation"], **prompts)
    settings = folder / "sentence_bert_config.json"
    processing = {"processing_kwargs": {"chat_template": {"add_generation_prompt": True}}}
    settings.write_text(json.dumps({**json.loads(settings.read_text()), **processing}))
    reference = CrossEncoder(str(folder), device="cpu")
    theirs = reference.predict([(QUERY, document) for document in DOCUMENTS])
    model = load(Entry("m", folder=folder), CPU, "float32")
    np.testing.assert_allclose(scores(model, model.tokenizer.encode_pairs(QUERY, DOCUMENTS)), theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["qwen3-classifier", "bert"])
def test_the_default_prompt_stands_in_front_of_a_query(kind: str, tmp_path: Path) -> None:
    """Of what has no template. An instruction takes its place, as it does a prompt's default."""
    folder, reference = saved(tmp_path, kind, None, prompts={"query": "w50: "}, default_prompt_name="query")
    model = load(Entry("m", folder=folder), CPU, "float32")
    assert model.entry.prompt == ("none" if kind == "qwen3-classifier" else None)
    documents = DOCUMENTS[:4]
    for instruction, prompt in ((None, None), ("w60", "w60 ")):
        theirs = reference.predict([(QUERY, document) for document in documents], prompt=prompt)
        sequences = model.tokenizer.encode_pairs(QUERY, documents, instruction=instruction)
        np.testing.assert_allclose(scores(model, sequences), theirs, rtol=0, atol=1e-4)


def test_windows_of_a_document_end_with_the_suffix_of_the_template(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path, "qwen3-classifier", TEMPLATES["behind"])
    tokenizer = load(Entry("m", folder=folder, max_length=64), CPU, "float32").tokenizer
    document = " ".join(f"w{i}" for i in range(100, 250))
    windows = tokenizer.encode_pairs(QUERY, [document], LengthLimits(long_documents="chunk_max"))
    [whole] = tokenizer.encode_pairs(QUERY, ["w100"])
    assert len(windows) > 2
    assert {tuple(window.ids[-3:].tolist()) for window in windows} == {tuple(whole.ids[-3:].tolist())}
    spans = [window.span for window in windows if window.span is not None]
    assert (spans[0][0], spans[-1][1]) == (0, len(document))
    assert all(len(window) + len(window.prefix or "") <= 64 for window in windows)


def test_templates_come_from_where_transformers_takes_them(tmp_path: Path) -> None:
    build(tmp_path, "qwen3-classifier")
    settings = tmp_path / "tokenizer_config.json"
    plain = json.loads(settings.read_text())

    def behind() -> str:
        return read_chat_template(Checkpoint(tmp_path)).plain.suffix

    def configure(template: Any) -> None:
        settings.write_text(json.dumps({**plain, "chat_template": template}))

    one, two = (f"{QUERY_SLOT} {DOCUMENT_SLOT} {end}" for end in ("one", "two"))
    configure(one)
    (tmp_path / "chat_template.jinja").write_text(two)
    assert behind() == " two"
    (tmp_path / "chat_template.jinja").unlink()
    assert behind() == " one"
    configure([{"name": "default", "template": two}, {"name": "tool_use", "template": one}])
    assert behind() == " two"
    configure([{"name": "rerank", "template": two}])
    with pytest.raises(UnsupportedModelError, match="has no default chat template; it has rerank"):
        behind()


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "does not write the document"),
        (DOCUMENT_SLOT, "does not write the query"),
        (f"{QUERY_SLOT} {DOCUMENT_SLOT} {DOCUMENT_SLOT}", "writes the document more than once"),
        (f"{DOCUMENT_SLOT} {QUERY_SLOT}", "writes the query or the instruction after the document"),
        (f"{QUERY_SLOT} {DOCUMENT_SLOT.replace('first', 'first | upper')}", "does not write the document"),
        (f"{QUERY_SLOT}<{DOCUMENT_SLOT}>w3", "can't be split in front of the document without changing its tokens"),
        (f"{QUERY_SLOT} {DOCUMENT_SLOT.replace('first }}', '''first | truncate(50) }}''')}", "changes its texts"),
        (f"{{{{ strftime_now('%Y') }}}} {QUERY_SLOT} {DOCUMENT_SLOT}", "it writes the date"),
        (f"{{{{ raise_exception('no pairs') }}}} {QUERY_SLOT} {DOCUMENT_SLOT}", "no pairs"),
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
        ("{{ messages.append(1) }}" + QUERY_SLOT + DOCUMENT_SLOT, "SecurityError"),
        (
            "{% set ns = namespace(x='aaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
            "Memory",
        ),
        (f"{QUERY_SLOT} {DOCUMENT_SLOT} {{{{ 'x' * 5000000 }}}}", "more than 4,194,304 characters"),
    ],
)
def test_a_template_that_can_not_be_honoured_is_refused(template: str, words: str, tmp_path: Path) -> None:
    build(tmp_path, "qwen3-classifier")
    (tmp_path / "chat_template.jinja").write_text(template)
    message = refusal(tmp_path)
    assert words in message
    assert "can't be split" in words or "Name the prompt that it was trained with: none, chat-template" in message


def test_a_template_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sie_server.checkpoints.chat_template_file._WAIT_S", 2.0)
    build(tmp_path, "qwen3-classifier")
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    (tmp_path / "chat_template.jinja").write_text(loop)
    assert "could not be rendered within" in refusal(tmp_path)


def test_nothing_says_how_a_language_model_reads_a_pair(tmp_path: Path) -> None:
    build(tmp_path, "qwen3")
    (tmp_path / "chat_template.jinja").unlink()
    assert "says how this language model reads a query and a document" in refusal(tmp_path)
    for prompt in ("none", "qwen3-reranker"):
        assert load(Entry("m", folder=tmp_path, prompt=prompt), CPU).entry.prompt == prompt
    (tmp_path / "1_LogitScore").mkdir()
    (tmp_path / "1_LogitScore" / "config.json").write_text('{"true_token_id": 7, "false_token_id": 9}')
    assert load(Entry("m", folder=tmp_path), CPU).entry.prompt == "none"


def test_an_encoder_whose_texts_go_into_a_template_is_refused(tmp_path: Path) -> None:
    build(tmp_path, "bert")
    (tmp_path / "chat_template.jinja").write_text(TEMPLATES["short"])
    assert "the folder's texts go into a chat template" in refusal(tmp_path)
    assert load(Entry("m", folder=tmp_path, prompt="none"), CPU).entry.prompt is None
    with pytest.raises(UnsupportedModelError, match="is for decoder rerankers"):
        load(Entry("m", folder=tmp_path, prompt="zerank-2"), CPU)


def test_prompts_are_given_to_models_that_are_served(tmp_path: Path) -> None:
    build(tmp_path / "mine", "qwen3-classifier")
    assert with_models(shipped(), [str(tmp_path / "mine")], ["mine=none"])["mine"].prompt == "none"
    for given in ("other=none", "mine", "mine="):
        with pytest.raises(ValueError, match="expected NAME=PROMPT"):
            with_models(shipped(), [str(tmp_path / "mine")], [given])


def test_the_files_that_a_known_reranker_is_published_with_say_its_prompt(data: Path, tmp_path: Path) -> None:
    published = data / "tokenizers" / "Qwen3-Reranker-0.6B" / "tokenizer_config.json"
    settings = json.loads(published.read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    prompt = choose(None, "Qwen3ForCausalLM", Checkpoint(tmp_path), classifier=False)
    assert prompt_name(prompt) == "qwen3-reranker"
    settings["chat_template"] += " "
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UnsupportedModelError, match="Name the prompt that it was trained with"):
        choose(None, "Qwen3ForCausalLM", Checkpoint(tmp_path), classifier=False)
