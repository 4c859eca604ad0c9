"""Late-interaction models: their vectors equal those of sentence-transformers' reader of the same folders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import MultiVectorEncoder
from torch import Tensor, nn
from transformers import AttentionInterface, XLMRobertaConfig, XLMRobertaModel

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.load import load
from sie_server.errors import SIEError, UnsupportedModelError
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.packed import Packed
from sie_server.tokenization.config import LengthLimits
from sie_server.tokenization.sequence import Sequence
from sie_testing.checkpoints import ROBERTA, text
from sie_testing.engine_loop import running
from sie_testing.late_interaction_checkpoints import WIDTH, edit, jina, pylate, saved_again, stanford

CPU = torch.device("cpu")
QUERIES = ["", "what is python", "who made it ?", text(5, 1), text(9, 2), text(10, 3), text(40, 4)]
DOCUMENTS = ["", "python .", "is it ( a language ) , a programming language !", text(7, 5), text(36, 6), text(300, 7)]

LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "stanford": lambda folder: stanford(folder),
    "stanford-attended": lambda folder: stanford(folder, attend_to_mask_tokens=True),
    "stanford-punctuation": lambda folder: stanford(folder, mask_punctuation=False),
    "pylate": lambda folder: pylate(folder),
    "pylate-attended": lambda folder: pylate(folder, attend_to_expansion_tokens=True, skiplist_words=["python", "?"]),
    "pylate-unexpanded": lambda folder: pylate(folder, do_query_expansion=False),
    "pylate-bert": lambda folder: pylate(folder, "bert-encoder", query_prefix="[unused0]", document_prefix="[unused1]"),
    "sentence-transformers": lambda folder: saved_again(pylate(folder / "pylate"), folder / "saved"),
}


def vectors(model: LoadedModel, sequences: list[Sequence]) -> list[np.ndarray]:
    with torch.inference_mode():
        head = model.embedders(["multivector"])["multivector"]
        return head(*model.encoder(Packed.of(sequences, CPU)), sequences)


@pytest.fixture(scope="module", params=LAYOUTS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return LAYOUTS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def reference(folder: Path) -> MultiVectorEncoder:
    return MultiVectorEncoder(str(folder), device="cpu")


def test_vectors_equal_the_reference(folder: Path, reference: MultiVectorEncoder) -> None:
    model = load(Entry("m", folder=folder), CPU, "float32")
    assert (model.entry.outputs, model.score) == (("multivector", "score"), "maxsim")
    assert (model.entry.dims, model.max_length) == (WIDTH, 512)
    sequences = {
        "query": model.tokenizer.encode_queries(QUERIES),
        "document": model.tokenizer.encode_documents(DOCUMENTS),
    }
    for task, texts in {"query": QUERIES, "document": DOCUMENTS}.items():
        ours = vectors(model, sequences[task])
        for one, mine in zip(texts, ours, strict=True):
            expected = reference.encode(one, prompt_name=task, task=task)
            assert mine.shape == expected.shape, (task, one)
            np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-5)


def test_scores_equal_the_reference(folder: Path, reference: MultiVectorEncoder) -> None:
    """Through the engine: sums over all tokens of the query, none of which a document's skipped tokens win."""
    expected = reference.similarity(
        reference.encode(QUERIES, prompt_name="query", task="query"),
        reference.encode(DOCUMENTS, prompt_name="document", task="document"),
    )
    with running({"m": Entry("m", folder=folder)}, precision="float32", preload=()) as engine:
        for query, row in zip(QUERIES, expected.tolist(), strict=True):
            scored = engine.score("m", query, DOCUMENTS)
            np.testing.assert_allclose(scored.scores, row, rtol=0, atol=1e-4)
            assert scored.truncated == [False] * 5 + [True]


def rotary_attention(
    _module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **_: Any
) -> tuple[Tensor, None]:
    """Su et al. 2021, equation 34, over `[batch, heads, tokens, head_dim]`; the base is the checkpoint's."""
    tokens, width = query.shape[2:]
    angle = torch.arange(tokens)[:, None] * 500.0 ** (-torch.arange(0, width, 2) / width)
    turn = torch.polar(torch.ones_like(angle), angle)

    def rotate(x: Tensor) -> Tensor:
        pairs = torch.complex(x[..., : width // 2], x[..., width // 2 :]) * turn
        return torch.cat((pairs.real, pairs.imag), dim=-1)

    attended = nn.functional.scaled_dot_product_attention(rotate(query), rotate(key), value, attn_mask=mask)
    return attended.transpose(1, 2), None


def test_rotary_xlm_roberta_equals_transformers_with_that_attention(tmp_path: Path) -> None:
    """jina-colbert-v2's architecture, with the catalogue's word on what its files leave open."""
    jina(tmp_path)
    own = {"query_marker": "[QueryMarker]", "document_marker": "[DocumentMarker]", "query_length": 12, "attend": True}
    entry = Entry("m", folder=tmp_path, late_interaction={**own, "document_length": 40})
    weights = load_file(tmp_path / "model.safetensors")
    plain = XLMRobertaModel(XLMRobertaConfig(**ROBERTA), add_pooling_layer=False).eval()
    state = {name.removeprefix("roberta."): value for name, value in weights.items() if name.startswith("roberta.")}
    state["embeddings.position_embeddings.weight"] = torch.zeros(514, 64)
    plain.load_state_dict({name: value for name, value in state.items() if "pooler" not in name})
    AttentionInterface.register("rotary", rotary_attention)
    plain.set_attn_implementation("rotary")
    model = load(entry, CPU, "float32")
    queries, documents = model.tokenizer.encode_queries(QUERIES), model.tokenizer.encode_documents(DOCUMENTS)
    assert [len(sequence) for sequence in queries] == [12] * len(QUERIES)
    assert not any(sequence.unattended for sequence in queries)
    for sequence, mine in zip([*queries, *documents], vectors(model, [*queries, *documents]), strict=True):
        with torch.inference_mode():
            states = plain(input_ids=torch.from_numpy(sequence.ids)[None]).last_hidden_state[0]
        expected = nn.functional.normalize(states @ weights["linear.weight"].T, dim=-1).numpy()
        expected = expected if sequence.keep is None else expected[sequence.keep]
        np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", ["stanford", "pylate"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_vectors_do_not_depend_on_the_batch(tmp_path: Path, layout: str, precision: Any) -> None:
    torch.set_num_threads(1)
    model = load(Entry("m", folder=LAYOUTS[layout](tmp_path)), CPU, precision)
    sequences = [*model.tokenizer.encode_queries(QUERIES), *model.tokenizer.encode_documents(DOCUMENTS)]
    for sequence, together in zip(sequences, vectors(model, sequences), strict=True):
        [alone] = vectors(model, [sequence])
        assert np.array_equal(alone, together)


def test_a_request_may_choose_the_lengths(tmp_path: Path) -> None:
    """Above the checkpoint's defaults too, as long as the model has the positions."""
    tokenizer = load(Entry("m", folder=pylate(tmp_path)), CPU).tokenizer
    long = text(100, 1)
    assert len(tokenizer.encode_documents([long])[0]) == 40
    assert len(tokenizer.encode_documents([long], LengthLimits(sequence=90))[0]) == 90
    assert len(tokenizer.encode_documents([long], LengthLimits(sequence=1000))[0]) == 103
    assert [len(tokenizer.encode_queries([one], LengthLimits(query=20))[0]) for one in ("what", long)] == [20, 20]
    with pytest.raises(SIEError, match=r"'options.query_max_length' is 3 and leaves no room for a query"):
        tokenizer.encode_queries(["what"], LengthLimits(query=3))
    # The window of a layer is 16 tokens to either side.
    with pytest.raises(SIEError, match=r"adds 26 tokens to the query; the model takes 16"):
        tokenizer.encode_queries(["what"], LengthLimits(query=30))
    with pytest.raises(SIEError, match="leaves no room for a document"):
        tokenizer.encode_query("what", LengthLimits(sequence=3))


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("config_sentence_transformers.json", {"query_prefix": "[R] "}, "has no token '[R]', which the model needs"),
        ("config_sentence_transformers.json", {"query_length": "12"}, "config_sentence_transformers.json: Expected"),
        ("1_Dense/config.json", {"activation_function": "torch.nn.SiLU"}, "1_Dense: activation_function 'SiLU' is not"),
        ("3_Dense/config.json", {"out_features": 32}, "has shape (48, 96), but the config implies (32, 96)"),
        ("3_Dense/config.json", {"module_output_name": "scores"}, "3_Dense maps 'token_embeddings' to 'scores'"),
    ],
)
def test_an_unsupported_setting_is_refused_by_name(
    tmp_path: Path, file: str, changes: dict[str, Any], words: str
) -> None:
    edit(pylate(tmp_path) / file, **changes)
    with pytest.raises(UnsupportedModelError) as caught:
        load(Entry("m", folder=tmp_path), CPU)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        (
            "sentence_bert_config.json",
            {"query_expansion": {"strategy": "min", "length": 12}},
            "query_expansion by 'min'",
        ),
        ("4_MultiVectorMask/config.json", {"keep_only_token_ids": [7]}, "MultiVectorMask is supported only with"),
    ],
)
def test_modules_with_another_mask_are_refused(tmp_path: Path, file: str, changes: dict[str, Any], words: str) -> None:
    edit(saved_again(pylate(tmp_path / "pylate"), tmp_path / "saved") / file, **changes)
    with pytest.raises(UnsupportedModelError, match=words):
        load(Entry("m", folder=tmp_path / "saved"), CPU)


def test_stanford_over_another_architecture_is_refused(tmp_path: Path) -> None:
    edit(stanford(tmp_path) / "config.json", model_type="electra")
    with pytest.raises(UnsupportedModelError, match="HF_ColBERT over 'electra' is not supported; supported: bert"):
        load(Entry("m", folder=tmp_path), CPU)
