"""Explanations and remedies of every error code and load class."""

from typing import NamedTuple

from sie_server.errors import ANSWERS, COOLDOWN_S, Code, LoadClass


class Remedy(NamedTuple):
    """Explanation of an error, and advice."""

    meaning: str
    advice: str


REMEDIES: dict[Code, Remedy] = {
    Code.INVALID_INPUT: Remedy(
        "A field is missing, has the wrong type, or is over a limit. The message names it.",
        "Correct the request. [Limits](limits.md) lists the limits, and the setting of each.",
    ),
    Code.UNSUPPORTED_FIELD: Remedy(
        "A field of another API would change the answer, and is not supported here. The message names it.",
        "Leave the field out. [Clients of other APIs](clients.md#fields) lists the fields that work.",
    ),
    Code.INPUT_TOO_LONG: Remedy(
        "A text or the whole request has too many tokens, and it asks for an error in place of a cut.",
        "Shorten it, split it, or use [`long_documents`](http.md#long-documents): `truncate` or `chunk_max`.",
    ),
    Code.UNAUTHORIZED: Remedy(
        "The server has API keys, and the request has none of them.",
        "Send `Authorization: Bearer KEY`; the SDKs read `SIE_API_KEY`. [API keys](deploy.md#api-keys) says why a key "
        "in a file may not count.",
    ),
    Code.NOT_FOUND: Remedy(
        "No route has this path.",
        "Use the server's address as the base URL, without `/v1`: the SDKs add the path. `/docs` lists all routes.",
    ),
    Code.MODEL_NOT_FOUND: Remedy(
        "The server does not offer a model of this name. The message suggests similar names.",
        "Check the spelling with `GET /v1/models`. Allow the model with `--model`, or give it the name with `--alias`; "
        "`--catalogue` may exclude it.",
    ),
    Code.METHOD_NOT_ALLOWED: Remedy(
        "The route has another method.", "Send POST to rank and embed, and GET to look something up."
    ),
    Code.TOO_SLOW: Remedy(
        "The request did not arrive within `--receive-timeout`, or slower than 8 KiB/s.",
        "Look at the network and the proxy in front. The answer is final: the client has to send the request again.",
    ),
    Code.BODY_TOO_LARGE: Remedy(
        "The body has more bytes than `--max-request-body-bytes`.",
        "Send the documents in several requests, as the SDKs do by themselves, or raise the limit.",
    ),
    Code.BODY_ENCODED: Remedy("The body is compressed (`Content-Encoding`).", "Send it uncompressed."),
    Code.CONTENT_TYPE: Remedy(
        "A web page of an origin that `--cors-origins` does not name sent a body as plain text or a form.",
        "Send `Content-Type: application/json`, and allow the page's origin.",
    ),
    Code.UNPROCESSABLE: Remedy(
        "As 400 `INVALID_INPUT`, on the routes of OpenAI's and other APIs, whose clients expect this status.",
        "Correct the request.",
    ),
    Code.HEAD_TOO_LARGE: Remedy(
        "The head has more than 128 KiB or 128 headers.",
        "Remove headers, such as large cookies that a proxy passes on.",
    ),
    Code.INFERENCE_ERROR: Remedy(
        "The model or its tokenizer failed on this request, or gave a number that is not finite.",
        "Look at the log: it has the stack under the request's id. Check the model with `sie-server models verify`, "
        "and try `--precision float32`.",
    ),
    Code.INTERNAL_ERROR: Remedy(
        "A fault in the server.", "Look at the log for the stack, and report it with the version and the request's id."
    ),
    Code.MODEL_LOAD_FAILED: Remedy(
        "The model could not be loaded. The message has the reason, and `error_class` its [class](#failed-loads).",
        "Do what the class says. The server tries again by itself after the cool-down.",
    ),
    Code.MODEL_LOADING: Remedy(
        "The model is being loaded, and the request has waited for `--load-wait`.",
        "Retry after `Retry-After`, as the SDKs do by themselves. `--preload` loads a model before `/readyz` answers "
        "200, and `--pinned` keeps it.",
    ),
    Code.QUEUE_FULL: Remedy(
        "More waits than `--queue-tokens` allows, or there are too many connections, or bodies in memory.",
        "Retry after `Retry-After`, as the SDKs do by themselves. If it lasts, add servers or take a smaller model; "
        "[Tune](tune.md) says what else helps.",
    ),
    Code.RESOURCE_EXHAUSTED: Remedy(
        "A single text did not fit into the memory of the device.",
        "Shorten it (`max_seq_length`), lower `--batch-tokens` or `--memory-budget`, or take a larger machine.",
    ),
    Code.SHUTTING_DOWN: Remedy(
        "The server received SIGTERM, and takes no new requests.",
        "Send the request to another server: [a load balancer](deploy.md#behind-nginx-or-haproxy) does that by itself.",
    ),
    Code.GATEWAY_TIMEOUT: Remedy(
        "The request has a deadline (`X-Request-Timeout`) that passed, or that the queue would make it miss.",
        "Allow more time or fewer documents; `X-SIE-Priority: interactive` puts it ahead of others.",
    ),
}

LOADS: dict[LoadClass, Remedy] = {
    LoadClass.GATED: Remedy(
        "The hub requires access to the model.", "Accept the model's terms on the hub, and set `HF_TOKEN`."
    ),
    LoadClass.NOT_FOUND: Remedy(
        "The hub does not have the model or the revision.", "Check the id, and `HF_ENDPOINT` if you set it."
    ),
    LoadClass.CONFIG: Remedy(
        "The files are not those of a supported model. The message names the file and the setting.",
        "Compare with [what is supported](own-models.md#what-is-supported).",
    ),
    LoadClass.DEPENDENCY: Remedy("A Python module is missing.", "Install what the message names."),
    LoadClass.SCORES: Remedy(
        "`--verify`: the scores differ from the published ones.",
        "Look for damaged or changed files; `sie-server models verify` shows the differences.",
    ),
    LoadClass.NETWORK: Remedy(
        "The hub is not reachable, or the download was interrupted.",
        "Check the network and `HTTPS_PROXY`, or [do without a hub](deploy.md#without-a-hub).",
    ),
    LoadClass.TIMEOUT: Remedy(
        "The download stalled, or the load took longer than `--load-timeout` (600 s). The next load of this model "
        "waits until it has ended.",
        "Look at the disk and the network, or raise the limit.",
    ),
    LoadClass.STORAGE: Remedy(
        "The disk is full, or files are unreadable or truncated.",
        "Free space in `HF_HOME`, or copy the files again: rename a folder into place once it is complete.",
    ),
    LoadClass.PLACEMENT: Remedy(
        "The device did not take the weights.", "Look at the GPU with `nvidia-smi`: another process may use its memory."
    ),
    LoadClass.ENGINE: Remedy(
        "An operator failed on this machine.", "Run `sie-server doctor`, and try `--precision float32`."
    ),
    LoadClass.OOM: Remedy(
        "There is not enough memory, even after all other models that may be unloaded.",
        "Take a smaller model, pin fewer, or raise `--memory-budget` if the machine has more "
        "([Making room](many-models.md#making-room)).",
    ),
    LoadClass.UNKNOWN: Remedy("Anything else.", "Look at the log for the stack."),
}


def parts() -> dict[str, str]:
    """The generated parts of docs/troubleshooting.md."""
    codes = sorted(ANSWERS.items(), key=lambda item: item[1].status)
    rows = [
        f"| {answer.status} `{answer.wire}` | {REMEDIES[code].meaning} | {REMEDIES[code].advice} |"
        for code, answer in codes
    ]
    loads = [f"| `{kind}` | {LOADS[kind].meaning} | {LOADS[kind].advice} | {_retried(kind)} |" for kind in LoadClass]
    return {
        "codes": "\n".join(["| Status and code | Meaning | What to do |", "|---|---|---|", *rows]),
        "loads": "\n".join(["| Class | Meaning | What to do | Tried again after |", "|---|---|---|---|", *loads]),
    }


def _retried(kind: LoadClass) -> str:
    return f"{COOLDOWN_S[kind]:g} s" if kind in COOLDOWN_S else "never"
