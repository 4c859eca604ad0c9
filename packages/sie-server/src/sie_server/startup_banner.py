"""The message of a server that is ready: its URL, an example request, and who can reach it."""

from ipaddress import ip_address

from sie_server.catalog.catalog import Entry

_SCORE = """\
curl {url}/v1/score/{model} \\
    -H 'Content-Type: application/json' -H 'Accept: application/json'{key} \\
    -d '{{"query": {{"text": "What is Python?"}},
         "items": [{{"text": "Python is a programming language."}}, {{"text": "Snakes are reptiles."}}]}}'"""
_ENCODE = """\
curl {url}/v1/encode/{model} \\
    -H 'Content-Type: application/json' -H 'Accept: application/json'{key} \\
    -d '{{"items": [{{"text": "Python is a programming language."}}],
         "params": {{"output_types": ["{output}"]}}}}'"""
_ONLY_HERE = (
    "Only this machine can reach the server. "
    "Set --host 0.0.0.0 (or SIE_HOST) to open it, and SIE_API_KEYS to require keys."
)
_ANYBODY = "The server is open to everyone who can reach this address. Set SIE_API_KEYS to require keys."


def base_url(host: str, port: int) -> str:
    """The URL of a server that listens at host and port, for clients on this machine."""
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    if ":" in host:
        host = f"[{host.replace('%', '%25')}]"
    return f"http://{host}:{port}"


def reach(host: str, keys: bool) -> str:
    """A sentence on who can use the server; empty if it requires keys."""
    if keys:
        return ""
    return _ONLY_HERE if ip_address(host.partition("%")[0]).is_loopback else _ANYBODY


def welcome(url: str, entry: Entry | None, host: str, keys: bool, page: bool) -> str:
    """The banner: the URL, an example request to the first model, and who can reach the server.

    page: whether there is a page at the URL.
    """
    ready = f"\nSIE is ready at {url}\n" + ("Open it in a browser to rank documents.\n" if page else "")
    if entry is None:
        return ready
    outputs = entry.outputs or ("score",)
    key = ' \\\n    -H "Authorization: Bearer $SIE_API_KEY"' if keys else ""
    template = _SCORE if "score" in outputs else _ENCODE
    request = template.format(url=url, model=entry.id, key=key, output=outputs[0])
    sentence = reach(host, keys)
    return f"{ready}\n  {request}\n" + (f"\n{sentence}\n" if sentence else "")
