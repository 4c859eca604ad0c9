"""Coverage-guided fuzzing of what reads request bodies: every type, in JSON and MessagePack.

    python reliability/fuzz_wire.py -max_total_time=300 CORPUS      # or any other option of libFuzzer

Whatever the bytes, they are decoded, or refused with an SIEError of status 400 or 422 that goes over the wire.
"""

import json
import re
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import atheris
import msgpack
import msgspec

with atheris.instrument_imports(include=["sie_server.codec", "sie_server.wire", "sie_server.api"]):
    from sie_server import codec, wire
    from sie_server.api.dialects.request import read as read_ranking
    from sie_server.api.embed_dialects.cohere import COHERE_V2
    from sie_server.api.embed_dialects.fields import EmbeddingsRequest
    from sie_server.api.embed_dialects.request import EmbedReader
    from sie_server.api.embed_dialects.token_ids import TokenIdReader
    from sie_server.errors import SIEError
    from sie_server.http.body import BodyReader
    from sie_server.http.body_memory import BodyMemory
    from sie_server.http.body_threads import BodyThreads
    from sie_server.http.error_responses import error_body
    from sie_server.settings import Settings

KINDS: tuple[Any, ...] = (wire.ScoreRequest, wire.EncodeRequest, wire.ExtractRequest, EmbeddingsRequest)
EMBED = EmbedReader(COHERE_V2, BodyReader(Settings(), BodyMemory(2**30), BodyThreads()), TokenIdReader("model"))
WIRE = Path(__file__).parents[1] / "packages/sie-server/tests/wire.json"
_MAX_BYTES = 4096
# msgspec is compiled, and libFuzzer sees no branch of it: what it says of an input takes their place.
COUNTERS = [atheris._reserve_counter() for _ in range(4096)]


def read(data: bytes) -> None:
    """The first byte chooses the type and the encoding, the rest is the body.

    Raises:
        AssertionError: it was refused in a way that no client understands.
    """
    choice, body = data[:1] or b"\0", data[1:]
    kind, msgpack_ = choice[0] % (len(KINDS) + 2), choice[0] >= 128
    try:
        if kind < len(KINDS):
            _render(codec.decode(body, KINDS[kind], msgpack=msgpack_))
        else:
            fields = codec.decode(body, dict[str, msgspec.Raw], msgpack=False)
            read_ranking(fields) if kind == len(KINDS) else EMBED.request(fields, None)
    except SIEError as error:
        if error.answer.status not in (400, 422):
            raise
        json.loads(codec.encode(error_body("", error), msgpack=False))
        _seen(kind, msgpack_, re.sub(r"\d+|'[^']*'", "", error.message))


def _render(body: Any) -> None:
    """Encode an accepted body in both encodings, and check that decoding returns the same."""
    items = (*getattr(body, "items", ()), *filter(None, [getattr(body, "query", None)]))
    if not any(item.metadata for item in items):  # which is kept in the encoding that it came in
        for msgpack_ in (True, False):
            with suppress(OverflowError):  # limits may be of any size, and are never sent back
                assert codec.decode(codec.encode(body, msgpack=msgpack_), type(body), msgpack=msgpack_) == body
    _seen(sorted(_paths(msgspec.to_builtins(body, builtin_types=(msgspec.Raw, int)))))


def _paths(tree: Any) -> set[tuple[str, ...]]:
    """Where in a tree there is a value, of which type and how large."""
    if isinstance(tree, dict):
        return {(key, *path) for key, value in tree.items() for path in _paths(value)} or {("{}",)}
    if isinstance(tree, list):
        return {("[]", *path) for value in tree[:8] for path in _paths(value)} or {("[]",)}
    return {(type(tree).__name__, str(len(str(tree)).bit_length()))} if tree is not None else set()


def _seen(*what: Any) -> None:
    atheris._trace_branch(COUNTERS[zlib.crc32(repr(what).encode()) % len(COUNTERS)])


def mutate(data: bytes, most: int, seed: int) -> bytes:
    """Half of the time libFuzzer's mutation, else one of the body as a tree, which stays well-formed."""
    if seed % 2:
        return bytes(atheris.Mutate(data, most))
    choice, body = data[:1] or b"\0", data[1:]
    packed = choice[0] >= 128
    try:
        tree = msgpack.unpackb(body, strict_map_key=False) if packed else json.loads(body)
        tree = _graft(tree, seed)
        changed = msgpack.packb(tree) if packed else json.dumps(tree).encode()
    except Exception:  # bytes that are no tree, or a tree that the other encoding can't say
        return bytes(atheris.Mutate(data, most))
    return (choice + changed)[:most]


def _graft(tree: Any, seed: int) -> Any:
    """The tree with one leaf or branch replaced."""
    odd: tuple[Any, ...] = (
        *(None, True, 0, -1, 2**63, -(2**63), 2**64 - 1, 1e308, float("nan"), float("inf"), "", "\0", "a" * 300),
        *([], {}, [[]], {"": {}}, [None] * 40, {"id": 1}, {"text": []}, {"metadata": {"a": [1, {"b": None}]}}),
    )
    branch, seed = seed % 4, seed // 4
    if branch and isinstance(tree, dict) and tree:
        key = list(tree)[seed % len(tree)]
        return {**tree, key: _graft(tree[key], seed // len(tree))}
    if branch and isinstance(tree, list) and tree:
        at = seed % len(tree)
        return [*tree[:at], _graft(tree[at], seed // len(tree)), *tree[at + 1 :]]
    return odd[seed % len(odd)]


def seeds(corpus: Path) -> None:
    """Writes the recorded requests as the first inputs."""
    corpus.mkdir(parents=True, exist_ok=True)
    for number, exchange in enumerate(json.loads(WIRE.read_text())["exchanges"]):
        request = exchange.get("request", {})
        for name, high in (("json", 0), ("msgpack", 132)):
            if name in request:
                body = request[name].encode() if name == "json" else bytes.fromhex(request[name])
                for kind in range(len(KINDS) + 2):
                    # 132 is a multiple of the number of choices, so that both encodings count alike.
                    (corpus / f"{number}-{name}-{kind}").write_bytes(bytes([high + kind]) + body)


def main() -> None:
    """Run libFuzzer with the arguments of the command line; the first that is no option is the corpus."""
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    if folders and not any(folders[0].glob("*")):
        seeds(folders[0])
    options = [f"-max_len={_MAX_BYTES}", "-timeout=10", "-rss_limit_mb=2048"]
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:]], read, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
