"""Certificates that the clients trust."""

import asyncio
import http.server
import shutil
import ssl
import subprocess
import threading

import msgpack
import pytest
from sdk_stand_ins import SCORED

from sie_sdk import SIEAsyncClient, SIEClient, SIEConnectionError
from sie_sdk.types import Item

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here to make a certificate with")


class Ranking(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(msgpack.packb(SCORED))

    def log_message(self, *_):
        pass


@pytest.fixture
def certificate(tmp_path):
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "certificate.pem"


@pytest.fixture
def url(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    server = http.server.HTTPServer(("localhost", 0), Ranking)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def blocking(url):
    with SIEClient(url) as client:
        return client.score("m", Item(text="q"), [Item(text="d")])


def awaited(url):
    async def score():
        async with SIEAsyncClient(url) as client:
            return await client.score("m", Item(text="q"), [Item(text="d")])

    return asyncio.run(score())


@pytest.mark.parametrize("score", [blocking, awaited])
def test_certificate(score, url, certificate, monkeypatch):
    with pytest.raises(SIEConnectionError, match=r"(?i)certificate.verify.failed") as caught:
        score(url)
    assert caught.value.kind == "other"
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert score(url)["scores"] == SCORED["scores"]
