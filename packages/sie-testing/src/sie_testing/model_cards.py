"""The decoders' prompts as their model cards build them, written down again: nothing here comes from our templates."""

from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer

INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
Encode = Callable[[str], list[int]]


def qwen3(encode: Encode, query: str, document: str, instruction: str = INSTRUCTION) -> list[int]:
    system = (
        "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
        'Note that the answer can only be "yes" or "no".'
    )
    return [
        *encode(f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n"),
        *encode(f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"),
        *encode("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"),
    ]


def zerank(encode: Encode, query: str, document: str) -> list[int]:
    return encode(
        f"<|im_start|>system\n{query}<|im_end|>\n<|im_start|>user\n{document}<|im_end|>\n<|im_start|>assistant\n"
    )


def mxbai(encode: Encode, query: str, document: str, instruction: str = "") -> list[int]:
    task = (
        "You are a search relevance expert who evaluates how well documents match search queries. For each "
        "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
        "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:"
    )
    return [
        *encode("<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"),
        *encode("<|im_start|>user\n"),
        *encode(f"instruction: {instruction}\nquery: {query}" if instruction else f"query: {query}"),
        *encode("\n"),
        *encode(f"document: {document}"),
        *encode("\n"),
        *encode(task),
        *encode("<|im_end|>\n<|im_start|>assistant\n"),
    ]


def gemma(encode: Encode, query: str, document: str) -> list[int]:
    prompt = (
        "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing "
        "a prediction of either 'Yes' or 'No'."
    )
    pieces = (f"A: {query}", "\n", f"B: {document}", "\n", prompt)
    return [*encode("<bos>"), *(token for piece in pieces for token in encode(piece))]


BUILD: dict[str, Callable[..., list[int]]] = {
    "qwen3-reranker": qwen3,
    "zerank-2": zerank,
    "mxbai-rerank-v2": mxbai,
    "bge-reranker-gemma": gemma,
}


def encoder_of(folder: Path) -> Encode:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids
