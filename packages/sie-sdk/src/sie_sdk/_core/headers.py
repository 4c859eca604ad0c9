"""Headers of requests."""

from collections.abc import Mapping


def gpu_headers(gpu: str | None) -> dict[str, str]:
    """`"l4"` names a machine profile, `"pool/l4"` also the pool of machines to take it from."""
    if not gpu:
        return {}
    pool, _, profile = gpu.rpartition("/")
    headers = {"x-sie-machine-profile": profile, "x-sie-pool": pool}
    return checked_headers({name: value for name, value in headers.items() if value})


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers by their lower-case names. Raises ValueError for one that HTTP can't carry."""
    for name, value in headers.items():
        # The value stays out of the message: it may be a secret.
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"the {name.lower()} header must be printable ASCII")
    return {name.lower(): value for name, value in headers.items()}
