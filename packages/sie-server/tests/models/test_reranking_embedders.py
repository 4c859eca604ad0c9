"""Folders of embedding models that rerank: by the vectors of sentence-transformers, in its prompts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from sentence_transformers.sparse_encoder.modules import SpladePooling
from torch import nn

from sie_server.catalog.catalog import shipped
from sie_server.checkpoints.source import locate
from sie_testing.checkpoints import build, text
from sie_testing.serving import EMBEDDED, connect, error, in_process, scores

QUERY = "what is python"
DOCUMENTS = ["snakes are reptiles", "python is a programming language", "who made it", text(60, 1)]
PROMPTS = {"query": "what: ", "document": "it {is}: "}


def save(folder: Path, name: str, pooling: str, *behind: nn.Module, **options: Any) -> Any:
    width = build(folder / "plain", name).config.hidden_size
    (folder / "plain" / "chat_template.jinja").unlink(missing_ok=True)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in nn.ModuleList(behind).parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    chain = [Transformer(str(folder / "plain"), max_seq_length=512), Pooling(width, pooling), *behind]
    model = SentenceTransformer(modules=chain, device="cpu", **options)
    model.save_pretrained(str(folder / "saved"))
    return model


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    folder = tmp_path_factory.mktemp("embedders")
    build(folder / "splade", "bert-sparse-encoder")
    transformer = Transformer(str(folder / "splade"), transformer_task="fill-mask", max_seq_length=512)
    splade: Any = SparseEncoder(modules=[transformer, SpladePooling("max")], device="cpu")
    splade.save_pretrained(str(folder / "saved"))
    return {
        "cls": (folder / "cls" / "saved", save(folder / "cls", "bert-encoder", "cls", Normalize())),
        "mean": (folder / "mean" / "saved", save(folder / "mean", "xlm-roberta-encoder", "mean", Normalize())),
        "layers": (folder / "layers" / "saved", save(folder / "layers", "bert-encoder", "mean", Dense(64, 24))),
        "prompts": (
            folder / "prompts" / "saved",
            save(folder / "prompts", "bert-encoder", "mean", Normalize(), prompts=PROMPTS),
        ),
        "decoder": (folder / "decoder" / "saved", save(folder / "decoder", "qwen3-encoder", "lasttoken", Normalize())),
        "splade": (folder / "saved", splade),
    }


@pytest.fixture(scope="module")
def api(references: dict[str, tuple[Path, Any]]) -> Iterator[httpx2.Client]:
    models = [f"{name}={folder}" for name, (folder, _) in references.items()]
    installed = locate(shipped()[EMBEDDED]).folder
    with (
        in_process(model=(*models, f"mine={installed}"), precision="float32") as server,
        connect(server.url) as client,
    ):
        yield client


@pytest.mark.parametrize("name", ["cls", "layers", "prompts", "decoder"])
def test_the_score_is_the_cosine_of_sentence_transformers(
    api: httpx2.Client, references: dict[str, tuple[Path, Any]], name: str
) -> None:
    reference = references[name][1]
    query = reference.encode_query(QUERY, normalize_embeddings=True)
    documents = reference.encode_document(DOCUMENTS, batch_size=1, normalize_embeddings=True)
    found = scores(api, name, QUERY, DOCUMENTS)
    np.testing.assert_allclose(found, documents @ query, rtol=0, atol=1e-5)
    assert len(set(found)) == len(DOCUMENTS)
    facts = api.get(f"/v1/models/{name}").json()
    assert (facts["outputs"], facts["score"]) == (["dense", "score"], "similarity")


def test_a_mean_of_token_vectors_scores_by_these(api: httpx2.Client, references: dict[str, tuple[Path, Any]]) -> None:
    reference = references["mean"][1]
    query, *documents = (
        torch.nn.functional.normalize(reference.encode(one, output_value="token_embeddings"), dim=-1)
        for one in (QUERY, *DOCUMENTS)
    )
    expected = [float((query @ document.T).max(dim=1).values.sum()) for document in documents]
    np.testing.assert_allclose(scores(api, "mean", QUERY, DOCUMENTS), expected, rtol=0, atol=1e-4)
    vectors = reference.encode([QUERY, *DOCUMENTS], batch_size=1)
    dense = scores(api, "mean", QUERY, DOCUMENTS, options={"score_mode": "dense"})
    np.testing.assert_allclose(dense, vectors[1:] @ vectors[0], rtol=0, atol=1e-5)


def test_the_installed_model_ranks_as_the_catalogues(api: httpx2.Client) -> None:
    for options in ({}, {"score_mode": "dense"}, {"long_documents": "chunk_max"}):
        expected = scores(api, EMBEDDED, QUERY, DOCUMENTS, options=options)
        assert scores(api, "mine", QUERY, DOCUMENTS, options=options) == expected


def test_a_sparse_model_scores_by_the_dot_product(api: httpx2.Client, references: dict[str, tuple[Path, Any]]) -> None:
    reference = references["splade"][1]
    query, *documents = (reference.encode(one, convert_to_sparse_tensor=False).numpy() for one in (QUERY, *DOCUMENTS))
    found = scores(api, "splade", QUERY, DOCUMENTS)
    np.testing.assert_allclose(found, [document @ query for document in documents], rtol=1e-5, atol=1e-5)
    body = {"model": "splade", "query": QUERY, "documents": DOCUMENTS}
    results = api.post("/v2/rerank", json=body).json()["results"]
    unit = [each["relevance_score"] for each in sorted(results, key=lambda each: each["index"])]
    assert unit == [score / (1 + score) for score in found]


def test_an_instruction_goes_in_front_of_the_query_as_in_encode(api: httpx2.Client) -> None:
    def vectors(texts: list[str], **params: Any) -> list[np.ndarray]:
        body = {"items": [{"text": one} for one in texts], "params": params}
        return [np.array(item["dense"]["values"]) for item in api.post("/v1/encode/prompts", json=body).json()["items"]]

    [query] = vectors([QUERY], is_query=True, instruction="who made it?")
    expected = [document @ query for document in vectors(DOCUMENTS)]
    found = scores(api, "prompts", QUERY, DOCUMENTS, instruction="who made it?")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert found != scores(api, "prompts", QUERY, DOCUMENTS)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "prompts",
            {"long_documents": "chunk_max"},
            "Field 'options.long_documents' can't be 'chunk_max': 'prompts' has a template around each document",
        ),
        (
            "cls",
            {"score_mode": "colbert"},
            "Model 'cls' can't score by 'colbert', because it has no multivector embeddings; it can score by dense",
        ),
        (
            "cls",
            {"return_highlights": True},
            "Field 'options.return_highlights' needs a score from token vectors; 'cls' has another kind of score",
        ),
    ],
)
def test_what_a_folder_can_not_do_is_refused(
    api: httpx2.Client, name: str, options: dict[str, Any], message: str
) -> None:
    body = {"query": {"text": QUERY}, "items": [{"text": "a"}], "options": options}
    assert error(api.post(f"/v1/score/{name}", json=body)) == (400, "INVALID_INPUT", message)
