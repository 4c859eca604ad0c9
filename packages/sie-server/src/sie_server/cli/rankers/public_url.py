"""URLs as they may be shown."""

from urllib.parse import urlsplit, urlunsplit


def public_url(url: str) -> str:
    """The URL without a user name and a password."""
    dialect, separator, rest = url.rpartition(":http")
    parts = urlsplit(f"http{rest}" if separator else url)
    shown = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return f"{dialect}:{shown}" if separator else shown
