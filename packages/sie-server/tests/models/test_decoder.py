"""Decoder rerankers score as their model cards say: prompt, cut, logits and formula, with the prompt's front shared."""

import asyncio
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling as STPooling
from tokenizers import Tokenizer

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.description import inspect
from sie_server.checkpoints.load import load
from sie_server.checkpoints.prompts import prompts
from sie_server.engine.forward import forward
from sie_server.engine.request import Batch, Request
from sie_server.engine.score_activation import sigmoid
from sie_server.errors import SIEError, UnsupportedModelError
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.heads import Dense
from sie_server.nn.packed import Packed
from sie_server.tokenization.config import LengthLimits
from sie_server.tokenization.sequence import Lead, Sequence
from sie_server.tokenization.tokenizer import TextTokenizer
from sie_testing.checkpoints import DECODERS, build, chat_template, text
from sie_testing.engine_loop import running
from sie_testing.model_cards import BUILD, INSTRUCTION, Encode, encoder_of, qwen3
from sie_testing.serving import connect, in_process

CPU = torch.device("cpu")
QUERY = "what is python"
LENGTHS = [1, 3, 17, 17, 60, 200, 380, 300]
DOCUMENTS = [text(length, seed=i) for i, length in enumerate(LENGTHS)]


def batch(sequences: list[Sequence]) -> list[Sequence]:
    """The sequences behind their prefix, where that is still to be computed."""
    assert sequences[0].prefix is not None
    return sequences if sequences[0].prefix.layers else [sequences[0].prefix.sequence, *sequences]


def scores(model: LoadedModel, sequences: list[Sequence]) -> list[float]:
    assert model.encoder.head is not None
    with torch.inference_mode():
        return model.encoder.head(*model.encoder(Packed.of(batch(sequences), CPU)), sequences)[-len(sequences) :]


def logits(reference: Any, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return reference(input_ids=torch.tensor([ids])).logits[0]


@pytest.fixture(scope="module", params=[n for n in DECODERS if n.split("-")[-1] not in ("classifier", "encoder")])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    return folder, build(folder, request.param)


def expected(folder: Path, reference: Any, prompt: str) -> list[float]:
    """Raw scores as the card computes them: one pair at a time, the whole prompt, the logits of the last token."""
    encode = encoder_of(folder)
    answers = [encode(answer)[0] for answer in prompts()[prompt].answers]
    result = []
    for document in DOCUMENTS:
        yes, *no = logits(reference, BUILD[prompt](encode, QUERY, document))[-1, answers].tolist()
        result.append(yes - sum(no))
    return result


def test_float32_scores_equal_transformers_alone_and_batched(checkpoint: tuple[Path, Any]) -> None:
    folder, reference = checkpoint
    model = load(Entry("m", folder=folder), CPU, "float32")
    assert model.entry.prompt is not None
    theirs = expected(folder, reference, model.entry.prompt)
    assert np.ptp(theirs) > 1e-2, "scores that do not differ prove nothing"
    sequences = model.tokenizer.encode_pairs(QUERY, DOCUMENTS)
    np.testing.assert_allclose(scores(model, sequences), theirs, rtol=0, atol=1e-5)
    # The prefix is stored now, and each document finds it.
    np.testing.assert_allclose([scores(model, [one])[0] for one in sequences], theirs, rtol=0, atol=1e-5)


def test_bfloat16_scores_stay_within_two_percent_of_the_spread(checkpoint: tuple[Path, Any]) -> None:
    exact, rounded = (load(Entry("m", folder=checkpoint[0]), CPU, p) for p in ("float32", "bfloat16"))
    documents = [text(length, seed=i) for i, length in enumerate(LENGTHS * 5)]
    one, two = (scores(model, model.tokenizer.encode_pairs(QUERY, documents)) for model in (exact, rounded))
    assert np.abs(np.subtract(one, two)).max() <= 2e-2 * np.ptp(one)
    assert one != two, "bfloat16 did not reach the products"


def test_a_classifier_on_a_decoder_equals_transformers(tmp_path: Path) -> None:
    reference = build(tmp_path, "qwen3-classifier")
    model = load(Entry("m", folder=tmp_path), CPU, "float32")
    encode = encoder_of(tmp_path)
    with torch.inference_mode():
        theirs = [
            reference(input_ids=torch.tensor([qwen3(encode, QUERY, document)])).logits[0, 0].item()
            for document in DOCUMENTS
        ]
    np.testing.assert_allclose(scores(model, model.tokenizer.encode_pairs(QUERY, DOCUMENTS)), theirs, rtol=0, atol=1e-5)
    assert model.score == "probability"


@pytest.mark.parametrize("prompt", [name for name in BUILD if name != "bge-reranker-gemma"])
def test_prompts_are_the_cards_token_for_token(prompt: str, data: Path) -> None:
    """With the real tokenizer, which Qwen2 shares; every text splits where the card's whole string would."""
    file = str(data / "tokenizers/Qwen3-Reranker-0.6B/tokenizer.json")
    reference = Tokenizer.from_file(file)
    ours = TextTokenizer(Tokenizer.from_file(file), 100_000, token_types=False, prompt=prompts()[prompt])

    @settings(max_examples=80)
    @given(st.text(max_size=60), st.text(max_size=120))
    @example("What is Python?", "\n\n  leading new lines: and punctuation...\n")
    @example("?\n", "  two spaces")
    @example("", "")
    @example("{query} {instruction}", "{document} {} 日本語 🐍‍́")
    def check(query: str, document: str) -> None:
        [pair] = ours.encode_pairs(query, [document])
        assert pair.prefix is not None
        ids = [*pair.prefix.sequence.ids.tolist(), *pair.ids.tolist()]
        assert ids == BUILD[prompt](lambda text: reference.encode(text, add_special_tokens=False).ids, query, document)

    check()


def test_real_answers_of_qwen3(data: Path, tmp_path: Path) -> None:
    """The tokens that the checkpoint names, in the real vocabulary, through a whole load."""
    reference = build(tmp_path, "qwen3", vocab_size=151669, num_hidden_layers=1)
    for file in (data / "tokenizers/Qwen3-Reranker-0.6B").glob("tokenizer*.json"):
        shutil.copy(file, tmp_path)
    model = load(Entry("m", folder=tmp_path), CPU, "float32")
    assert (model.tokenizer.token_id("yes"), model.tokenizer.token_id("no")) == (9693, 2152)
    documents = ["Python is a language.", "\nSnakes  are reptiles.", "日本語"]
    encode = encoder_of(tmp_path)
    last = [logits(reference, qwen3(encode, QUERY, document))[-1] for document in documents]
    theirs = [torch.softmax(one[[2152, 9693]], dim=0)[1].item() for one in last]
    with running({"m": Entry("m", folder=tmp_path)}, precision="float32", workers=1) as engine:
        model = engine.model("m")
        assert model.score == "probability"
        scored = engine.score("m", QUERY, documents)
    np.testing.assert_allclose(scored.scores, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("prompt", "slot"), [("qwen3-reranker", True), ("mxbai-rerank-v2", True), ("zerank-2", False)])
def test_an_instruction_fills_the_slot_of_the_prompt(prompt: str, slot: bool, data: Path) -> None:
    file = str(data / "tokenizers/Qwen3-Reranker-0.6B/tokenizer.json")
    tokenizer = Tokenizer.from_file(file)
    encode: Encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids  # noqa: E731
    theirs = BUILD[prompt](encode, "q", "d", "Find it.") if slot else BUILD[prompt](encode, "Find it. q", "d")
    for own, asked in ((None, "Find it."), ("Find it.", None), ("Lose it.", "Find it.")):
        ours = TextTokenizer(Tokenizer.from_file(file), 100_000, False, prompts()[prompt], own)
        [pair] = ours.encode_pairs("q", ["d"], instruction=asked)
        assert pair.prefix is not None
        assert [*pair.prefix.sequence.ids.tolist(), *pair.ids.tolist()] == theirs


def test_only_the_document_is_cut(checkpoint: tuple[Path, Any]) -> None:
    tokenizer = load(Entry("m", folder=checkpoint[0]), CPU, "float32").tokenizer
    [whole] = tokenizer.encode_pairs(QUERY, ["w1 " * 50])
    [cut] = tokenizer.encode_pairs(QUERY, ["w1 " * 3000])
    assert whole.prefix is not None
    assert cut.prefix is not None
    assert not whole.truncated
    assert cut.truncated
    assert len(cut.prefix) + len(cut) == tokenizer.max_length == 512
    after = len(whole) - 50 - (len(tokenizer.encode_pairs(QUERY, [""])[0]) - len(tokenizer._after))
    assert cut.ids[-after:].tolist() == whole.ids[-after:].tolist()
    with pytest.raises(SIEError, match=r"Field 'query' has 600 tokens and leaves no room"):
        tokenizer.encode_pairs("w1 " * 600, ["w1"])
    with pytest.raises(SIEError, match=r"'items\[1\]\.text' has 6\d\d tokens"):
        tokenizer.encode_pairs(QUERY, ["w1", "w1 " * 600], LengthLimits(long_documents="error"))


@pytest.mark.parametrize("prompt", ["qwen3-reranker", "zerank-2", "mxbai-rerank-v2"])
def test_the_end_of_a_document_stands_in_the_whole_prompt(prompt: str, data: Path) -> None:
    file = str(data / "tokenizers/Qwen3-Reranker-0.6B/tokenizer.json")
    reference = Tokenizer.from_file(file)
    ours = TextTokenizer(Tokenizer.from_file(file), 200, token_types=False, prompt=prompts()[prompt])
    document = " ".join(f"naïve{n}, 日本語" for n in range(100))

    def encode(text: str) -> list[int]:
        ids: list[int] = reference.encode(text, add_special_tokens=False).ids
        return ids

    [cut] = ours.encode_pairs("q", [document], LengthLimits(side="left"))
    assert cut.prefix is not None
    ids = [*cut.prefix.sequence.ids.tolist(), *cut.ids.tolist()]
    [end] = [document[at:] for at in range(len(document)) if BUILD[prompt](encode, "q", document[at:]) == ids]
    assert cut.truncated
    assert 196 < len(ids) <= 200
    assert len(end) > 50
    [capped] = ours.encode_pairs("q", [document], LengthLimits(side="left", document=30, long_documents="chunk_max"))
    assert capped.truncated
    assert capped.span is not None
    assert capped.span[1] == len(document)
    assert 15 < capped.span[1] - capped.span[0] < 60


def test_a_query_is_cut_on_request_only(checkpoint: tuple[Path, Any]) -> None:
    tokenizer = load(Entry("m", folder=checkpoint[0]), CPU, "float32").tokenizer
    [asked] = tokenizer.encode_pairs("w1 w2 w3 w4", ["w9"], LengthLimits(query=2))
    [short] = tokenizer.encode_pairs("w1 w2", ["w9"])
    assert asked.prefix is not None
    assert short.prefix is not None
    assert asked.prefix.sequence.ids.tolist() == short.prefix.sequence.ids.tolist()


def test_windows_of_a_long_document_say_where_they_are(checkpoint: tuple[Path, Any]) -> None:
    tokenizer = load(Entry("m", folder=checkpoint[0]), CPU, "float32").tokenizer
    document = text(1000, seed=5)
    windows = tokenizer.encode_pairs("w1", [document, "w7"], LengthLimits(long_documents="chunk_max"))
    *long, short = windows
    assert len(long) > 1
    assert short.span == (0, 2)
    assert {sequence.document for sequence in long} == {0}
    lead = len(tokenizer.encode_pairs("w1", [""])[0]) - len(tokenizer._after)
    for number, window in enumerate(long):
        assert window.span is not None
        words = document[slice(*window.span)].split()
        assert words, "a window without text"
        # The first window also holds the words that stand in front of every document.
        assert len(words) == len(window) - len(tokenizer._after) - (0 if number else lead)
    assert long[0].span is not None
    assert long[0].span[0] == 0
    assert long[-1].span is not None
    assert long[-1].span[1] == len(document)


@pytest.fixture
def no_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of nothing but what was asked for, to count it."""
    monkeypatch.setattr("sie_server.engine.forward._rounding_sequence", lambda _: [])


@pytest.mark.usefixtures("no_rounding")
def test_the_prefix_is_computed_once_for_a_request(tmp_path: Path) -> None:
    build(tmp_path, "qwen3")
    with running({"m": Entry("m", folder=tmp_path)}, workers=1, batch_tokens=64) as engine:
        model = engine.model("m")
        seen: list[int] = []
        model.encoder.embeddings.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
        scored = engine.score("m", QUERY, DOCUMENTS)
    prefix = len(model.tokenizer.encode_pairs(QUERY, ["w1"])[0].prefix or ())
    own = [len(sequence) for sequence in model.tokenizer.encode_pairs(QUERY, DOCUMENTS)]
    assert len(seen) > 1
    assert sum(seen) == scored.tokens == prefix + sum(own)
    assert scored.lengths == [prefix + length for length in own]


def test_prefix_of_several_requests_in_one_batch(tmp_path: Path) -> None:
    """Documents find their own request's prefix, stored or in the batch, bit for bit as alone."""
    build(tmp_path, "qwen3")
    model = load(Entry("m", folder=tmp_path), CPU, "float32")
    torch.set_num_threads(1)
    calls = [model.tokenizer.encode_pairs(query, DOCUMENTS[:4]) for query in ("w1", "w2 w3", "what is it w4")]
    alone = [[scores(model, [fresh])[0] for fresh in _fresh(call)] for call in calls]
    scores(model, calls[1])  # its prefix is stored from here on
    mixed = [*batch(calls[0]), *calls[1], *batch(calls[2])]
    assert model.encoder.head is not None
    with torch.inference_mode():
        together = model.encoder.head(*model.encoder(Packed.of(mixed, CPU)), mixed)
    assert [*together[1:5], *together[5:9], *together[10:14]] == [score for call in alone for score in call]


@pytest.mark.usefixtures("no_rounding")
def test_two_turns_of_one_request_in_a_batch_share_its_prefix(tmp_path: Path) -> None:
    build(tmp_path, "qwen3")
    model = load(Entry("m", folder=tmp_path), CPU, "float32")
    torch.set_num_threads(1)
    assert model.encoder.head is not None
    first, second = (model.tokenizer.encode_pairs(query, DOCUMENTS[:4]) for query in ("w1", "w2 w3"))
    alone = [scores(model, [fresh])[0] for call in (first, second) for fresh in _fresh(call)]
    loop = asyncio.new_event_loop()
    one, other = (Request(model, model.encoder.head, call, loop.create_future()).pending for call in (first, second))
    one, other = (sorted(pending, key=lambda entry: entry.position) for pending in (one, other))
    rows: list[int] = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0].ids)))
    with torch.inference_mode():
        together = forward(Batch(model, [*one[:2], *other, *one[2:]]))
    loop.close()
    assert [*together[:2], *together[6:], *together[2:6]] == alone
    assert sum(rows) == sum(len(call[0].prefix or ()) + sum(map(len, call)) for call in (first, second))


def _fresh(call: list[Sequence]) -> list[Sequence]:
    assert call[0].prefix is not None
    front = call[0].prefix.sequence
    return [Sequence(one.ids, one.type_ids, prefix=Lead(front)) for one in call]


@pytest.mark.parametrize("name", ["qwen3", "qwen3-encoder"])
def test_a_pooled_decoder_embeds_as_sentence_transformers(name: str, tmp_path: Path) -> None:
    """As Qwen3-Embedding: the last token, scaled to length 1; its checkpoint calls itself a causal language model."""
    build(tmp_path / "plain", name)
    (tmp_path / "plain" / "chat_template.jinja").unlink(missing_ok=True)
    transformer = Transformer(str(tmp_path / "plain"), max_seq_length=512)
    reference = SentenceTransformer(
        modules=[transformer, STPooling(transformer.get_embedding_dimension(), "lasttoken"), Normalize()],
        device="cpu",
    )
    reference.save_pretrained(str(tmp_path / "saved"))
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    (tmp_path / "saved" / "config.json").write_text(json.dumps(config))
    model = load(Entry("m", folder=tmp_path / "saved"), CPU, "float32")
    assert (model.entry.outputs, model.pooling, model.entry.prompt) == (("dense", "score"), "last", None)
    texts = [*DOCUMENTS, "what is python"]
    with torch.inference_mode():
        sequences = model.tokenizer.encode_documents(texts)
        vectors = Dense(model.pooling)(*model.encoder(Packed.of(sequences, CPU)), sequences)
    np.testing.assert_allclose(vectors, [reference.encode(one) for one in texts], rtol=0, atol=1e-5)


def test_an_unknown_prompt_and_other_answers_are_refused_by_name(tmp_path: Path) -> None:
    build(tmp_path, "qwen3")
    with pytest.raises(UnsupportedModelError, match=r"prompt 'qwen9' is not known; known: none, chat-template, q"):
        load(Entry("m", folder=tmp_path, prompt="qwen9"), CPU)
    score = tmp_path / "1_LogitScore" / "config.json"
    score.parent.mkdir()
    score.write_text('{"true_token_id": 5, "false_token_id": 6}')
    with pytest.raises(
        UnsupportedModelError, match=r"answers with tokens \[5, 6\], but the prompt 'qwen3-reranker' with"
    ):
        load(Entry("m", folder=tmp_path), CPU)
    yes = encoder_of(tmp_path)("Yes")[0]
    score.write_text(f'{{"true_token_id": {yes}, "false_token_id": null}}')
    assert load(Entry("m", folder=tmp_path), CPU).entry.prompt == "chat-template"
    (tmp_path / "chat_template.jinja").write_text(chat_template("zerank-2"))
    assert load(Entry("m", folder=tmp_path), CPU).entry.prompt == "zerank-2"
    score.unlink()
    assert load(Entry("m", folder=tmp_path, prompt="zerank-2"), CPU).score == "logit"


def test_the_inspected_files_are_loaded(tmp_path: Path) -> None:
    build(tmp_path, "qwen3")
    known, failure = inspect(Entry("m", folder=tmp_path))  # as a server does before it loads
    assert (known.prompt, failure) == ("qwen3-reranker", None)
    assert load(known, CPU).entry.prompt == "qwen3-reranker"


def test_a_checkpoint_without_its_projection_is_refused(tmp_path: Path) -> None:
    build(tmp_path, "qwen3")
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"tie_word_embeddings": true', '"tie_word_embeddings": false'))
    with pytest.raises(UnsupportedModelError, match=r"1 weights missing \['head.out.weight'\]"):
        load(Entry("m", folder=tmp_path), CPU)


@pytest.mark.parametrize(("yes", "no"), [(1.25, -0.5), (-3.0, 4.0), (0.0, 0.0)])
def test_probability_is_the_softmax_over_both_answers(yes: float, no: float) -> None:
    assert math.isclose(sigmoid(yes - no), math.exp(yes) / (math.exp(yes) + math.exp(no)))


# --- over HTTP -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    folder = tmp_path_factory.mktemp("served")
    build(folder / "qwen3", "qwen3")
    build(folder / "strict", "qwen3", seed=1)

    def strictly(entry: Entry, device: torch.device, precision: Any, **_: Any) -> LoadedModel:
        """As a catalogue entry that refuses long documents is loaded."""
        return load(replace(entry, long_documents="error") if entry.id == "strict" else entry, device, precision)

    paths = (str(folder / "qwen3"), str(folder / "strict"))
    with in_process(strictly, model=paths, precision="float32") as server, connect(server.url) as client:
        yield client


def post(api: httpx2.Client, model: str, query: str | None, items: list[str | None], **body: Any) -> httpx2.Response:
    payload = {"query": {"text": query}, "items": [{"text": item} for item in items], **body}
    return api.post(f"/v1/score/{model}", json=payload)


def test_a_decoder_is_served(api: httpx2.Client) -> None:
    answer = post(api, "qwen3", QUERY, DOCUMENTS[:3], options={"return_tokens": True}).json()
    assert all(0 < entry["score"] < 1 for entry in answer["scores"])
    tokens = {entry["item_id"]: entry["tokens"] for entry in answer["scores"]}
    front = tokens["item-0"] + tokens["item-1"] + tokens["item-2"] - answer["usage"]["input_tokens"]
    assert front % 2 == 0, "the front of the prompt is computed once, not three times"
    assert tokens["item-2"] - tokens["item-0"] == LENGTHS[2] - LENGTHS[0]
    facts = api.get("/v1/models/qwen3").json()
    assert (facts["prompt"], facts["score"]) == ("qwen3-reranker", "probability")


def test_instruction_reaches_the_prompt(api: httpx2.Client) -> None:
    plain, default, other = (
        post(api, "qwen3", QUERY, DOCUMENTS[:3], **body).json()["scores"]
        for body in ({}, {"instruction": INSTRUCTION}, {"instruction": "who made it"})
    )
    assert plain == default
    assert plain != other
    assert other == post(api, "qwen3", QUERY, DOCUMENTS[:3], options={"instruction": "who made it"}).json()["scores"]


@pytest.mark.parametrize("blank", ["", " ", "\n\t"])
def test_blank_text_is_refused(api: httpx2.Client, blank: str) -> None:
    for query, items, field in ((blank, ["it"], "query"), ("it", ["is", blank], "items[1]")):
        answer = post(api, "qwen3", query, items)
        assert answer.status_code == 400
        assert answer.json()["detail"]["code"] == "INVALID_INPUT"
        assert f"'{field}.text' is blank" in answer.json()["detail"]["message"]
    missing = post(api, "qwen3", None, ["it"]).json()["detail"]
    assert missing["message"].startswith("CausalReranker adapter requires text input")


def test_a_model_that_refuses_long_documents_does_so_unless_asked_to_cut(api: httpx2.Client) -> None:
    long = text(600, seed=1)
    assert post(api, "qwen3", QUERY, [long]).status_code == 200
    refused = post(api, "strict", QUERY, ["it", long])
    assert refused.status_code == 400
    assert refused.json()["detail"]["code"] == "INPUT_TOO_LONG"
    assert "items[1].text" in refused.json()["detail"]["message"]
    for options in (
        {"long_documents": "truncate"},
        {"long_documents": "chunk_max"},
        {"overflow_policy": "truncate_text"},
    ):
        assert post(api, "strict", QUERY, ["it", long], options=options).status_code == 200
