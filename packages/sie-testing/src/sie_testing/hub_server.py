"""A small model hub on the loopback interface."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Serves the repositories under `root` the way a hub does: a tree, and files with their hashes."""

    root: Path
    requests: list[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, body: bool) -> None:
        path = unquote(urlparse(self.path).path).strip("/")
        self.requests.append(path)
        parts = path.split("/")
        if not path:
            self._send(b"", body)
        elif parts[:2] == ["api", "models"]:
            repository = self.root / parts[2] / parts[3]
            if parts[2] == "gated":
                self._send(b"{}", body, 403, {"X-Error-Code": "GatedRepo"})
            elif parts[2] == "refused":
                self._send(b"{}", body, 403)
            elif not repository.is_dir():
                self._send(b"{}", body, 404, {"X-Error-Code": "RepoNotFound"})
            elif parts[4] == "tree":
                self._send(json.dumps([_entry(file, repository) for file in _files(repository)]).encode(), body)
            else:
                names = [{"rfilename": str(file.relative_to(repository))} for file in _files(repository)]
                self._send(json.dumps({"id": "x", "sha": COMMIT, "siblings": names}).encode(), body)
        else:
            file = self.root.joinpath(*parts[:2], *parts[4:])
            self._send(file.read_bytes(), body, headers={"ETag": f'"{_oid(file)}"', "X-Repo-Commit": COMMIT})

    def _send(self, content: bytes, body: bool, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


def _files(repository: Path) -> list[Path]:
    return sorted(path for path in repository.rglob("*") if path.is_file())


def _oid(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


def _entry(file: Path, repository: Path) -> dict[str, object]:
    return {"type": "file", "path": str(file.relative_to(repository)), "size": file.stat().st_size, "oid": _oid(file)}
