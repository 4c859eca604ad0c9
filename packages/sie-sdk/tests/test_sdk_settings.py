"""Settings, headers, retries and transport errors. Every test runs with both clients."""

import inspect
import ssl
from typing import Unpack, get_type_hints

import httpx2
import pytest
from sdk_stand_ins import BASE_URL, SCORED, Server, packed, refused

import sie_sdk
from sie_sdk import SIEAsyncClient, SIEClient, errors, types
from sie_sdk._core.endpoint import Endpoint
from sie_sdk._version import CONTRACT_VERSION
from sie_sdk.client import async_, sync
from sie_sdk.types import Item

QUERY, ITEMS = Item(text="q"), [Item(text="d")]


def test_look_ups_do_not_wait_for_a_server(connect, fake_time):
    with pytest.raises(errors.SIEConnectionError):
        connect(Server(httpx2.ConnectError("refused"))).list_models()
    assert fake_time.pauses == []


def test_further_headers(connect):
    server = Server(packed(SCORED))
    connect(server, base_url_headers={"X-Tenant": "t"}, remote="forbid").score("m", QUERY, ITEMS)
    assert server.requests[0].headers["x-tenant"] == "t"
    assert server.requests[0].headers["x-sie-remote"] == "forbid"


def test_environment(connect, monkeypatch):
    monkeypatch.setenv("SIE_BASE_URL", "http://env.test/prefix/")
    monkeypatch.setenv("SIE_API_KEY", "from-env\n")
    server = Server(packed(SCORED))
    client = connect(server, base_url=None)
    client.score("m", QUERY, ITEMS)
    connect(server, api_key="").score("m", QUERY, ITEMS)
    assert client.base_url == "http://env.test/prefix"
    assert str(server.requests[0].url) == "http://env.test/prefix/v1/score/m"
    assert server.requests[0].headers["authorization"] == "Bearer from-env"
    assert "authorization" not in server.requests[1].headers


@pytest.mark.parametrize(
    "arguments",
    [
        {"base_url": None},
        {"base_url": ""},
        {"base_url": "localhost:8080"},
        {"base_url": "ftp://host"},
        {"base_url": "/relative"},
        {"base_url": "http://host?x=1"},
        {"base_url": "http://host:99999"},
        {"timeout_s": 0},
        {"connect_timeout_s": -1.0},
        {"read_timeout_s": float("nan")},
        {"api_key": "a\nb"},
        {"api_key": "schlüssel"},
        {"remote": "allow"},
    ],
)
def test_constructor_refuses(connect, arguments):
    with pytest.raises(ValueError, match=r"base_url|timeout_s|authorization|remote"):
        connect(Server(), **arguments)


def test_refused_key_is_not_shown(connect):
    with pytest.raises(ValueError, match="authorization") as caught:
        connect(Server(), api_key="sécret")
    assert "cret" not in str(caught.value)


def test_password_in_the_url_is_not_shown(connect, caplog):
    client = connect(Server(httpx2.ConnectError("refused")), base_url="http://user:secret@sie.test")
    with pytest.raises(errors.SIEConnectionError, match=r"POST http://sie\.test/v1/score/m: refused") as caught:
        client.score("m", QUERY, ITEMS, provision_timeout_s=1.0)
    assert "secret" not in str(caught.value) + caplog.text


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_an_invalid_budget(connect, seconds):
    with pytest.raises(ValueError, match="provision_timeout_s"):
        connect(Server()).score("m", QUERY, ITEMS, provision_timeout_s=seconds)


def test_timeouts_reach_the_transport(connect):
    server = Server(packed(SCORED))
    connect(server).score("m", QUERY, ITEMS)
    connect(server, timeout_s=7.0).score("m", QUERY, ITEMS)
    connect(server, timeout_s=7.0, connect_timeout_s=2.0, read_timeout_s=3.0).score("m", QUERY, ITEMS)
    timeouts = [request.extensions["timeout"] for request in server.requests]
    assert [(t["connect"], t["read"]) for t in timeouts] == [(10.0, 150.0), (7.0, 7.0), (2.0, 3.0)]


def test_retries(connect, fake_time):
    loading = refused(503, "MODEL_LOADING", headers={"retry-after": "5"})
    server = Server(loading, httpx2.ConnectError("restarting"), packed(SCORED))
    client = connect(server)
    assert client.score("m", QUERY, ITEMS)["model"] == "m"
    assert fake_time.pauses == [5.0, 0.5]
    assert client.last_retry_count == 2
    assert len({request.content for request in server.requests}) == 1
    client.score("m", QUERY, ITEMS)
    assert client.last_retry_count == 0


def test_slow_connect_is_tried_again(connect, fake_time):
    server = Server(httpx2.ConnectTimeout("slow"), packed(SCORED))
    assert connect(server).score("m", QUERY, ITEMS)["model"] == "m"
    assert fake_time.pauses == [0.5]


def test_refused_certificate_is_not_tried_again(connect, fake_time):
    error = httpx2.ConnectError("certificate verify failed")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed certificate")
    with pytest.raises(errors.SIEConnectionError, match="certificate verify failed") as caught:
        connect(Server(error)).score("m", QUERY, ITEMS)
    assert caught.value.kind == "other"
    assert fake_time.pauses == []


def test_not_waiting_for_capacity(connect, fake_time):
    client = connect(Server(refused(503, "PROVISIONING", headers={"retry-after": "1"})))
    with pytest.raises(errors.ProvisioningError):
        client.score("m", QUERY, ITEMS, wait_for_capacity=False)
    assert fake_time.pauses == []


def test_max_oom_retries(connect, fake_time):
    client = connect(Server(refused(503, "RESOURCE_EXHAUSTED")))
    with pytest.raises(errors.ResourceExhaustedError) as caught:
        client.encode("m", QUERY, max_oom_retries=1)
    assert caught.value.retries == client.last_retry_count == 1
    assert fake_time.pauses == [5.0]


def test_version_skew_is_reported_once_per_client(connect, caplog):
    client = connect(Server(packed(SCORED, **{"x-sie-server-version": "9.0.0"})))
    for _ in range(3):
        client.score("m", QUERY, ITEMS)
    assert [record.getMessage() for record in caplog.records if "9.0.0" in record.getMessage()] == [
        f"the server implements version 9.0.0; this SDK is for {CONTRACT_VERSION}"
    ]


def test_injected_http_client_stays_open(connect):
    client = connect(Server(packed(SCORED)))
    client.close()
    assert client.score("m", QUERY, ITEMS)["model"] == "m"


def test_clients_are_the_same_but_for_await():
    assert sync.SIEClient is SIEClient is sie_sdk.client.SIEClient
    assert async_.SIEAsyncClient is SIEAsyncClient is sie_sdk.client.SIEAsyncClient
    for name in ("list_models", "get_model", "watch"):
        assert inspect.signature(getattr(SIEClient, name)).parameters == parameters(SIEAsyncClient, name)
    for name in ("score", "encode", "extract", "list_models", "get_model"):
        assert inspect.iscoroutinefunction(getattr(SIEAsyncClient, name))


@pytest.mark.parametrize(
    ("name", "keywords"),
    [
        ("score", types.ScoreArguments),
        ("encode", types.EncodeArguments),
        ("encode_stream", types.EncodeArguments),
        ("extract", types.ExtractArguments),
        ("__init__", types.ClientArguments),
    ],
)
def test_keyword_arguments_are_the_same(name, keywords):
    blocking, awaited = parameters(SIEClient, name), parameters(SIEAsyncClient, name)
    further = awaited.pop("arguments")
    assert further.annotation == Unpack[keywords]
    hints = get_type_hints(getattr(SIEClient, name), {**vars(sync), "httpx2": httpx2})
    expected = {keyword: hints[keyword] for keyword in blocking.keys() - awaited.keys()}
    assert get_type_hints(keywords) == expected
    own = {"max_concurrency"} if name == "__init__" else set()
    assert awaited.keys() - blocking.keys() == own
    # What is given by position has one annotation; the async client takes async iterables too.
    exceptions = {"http_client"} | ({"items"} if name == "encode_stream" else set())
    for keyword in awaited.keys() - own - exceptions:
        assert awaited[keyword] == blocking[keyword]
    # All calls share the keyword arguments of `_inference`.
    shared = {} if name == "__init__" else parameters(Endpoint, "_inference")
    endpoint = {**shared, **parameters(Endpoint, name)}
    if name != "encode":  # which hands them on to encode_stream
        assert {k: endpoint[k].default for k in expected} == {k: blocking[k].default for k in expected}


@pytest.mark.parametrize("method", ["score", "encode", "encode_stream", "extract"])
def test_an_unknown_keyword_of_a_method_is_refused_with_its_name(connect, method):
    client = connect(Server())
    given = ("m", QUERY, ITEMS) if method == "score" else ("m", ITEMS)
    with pytest.raises(TypeError, match=rf"\.{method}\(\) got an unexpected keyword argument 'topk'"):
        getattr(client, method)(*given, topk=1)


@pytest.mark.parametrize("client_class", [SIEClient, SIEAsyncClient])
def test_an_unknown_keyword_of_a_client_is_refused(client_class):
    with pytest.raises(TypeError, match=rf"{client_class.__name__}\.__init__\(\) got .* argument 'org_id'"):
        client_class(BASE_URL, org_id=1)


@pytest.mark.parametrize(
    ("client_class", "given", "message"),
    [
        (SIEClient, httpx2.AsyncClient(), "an httpx2.Client, got httpx2.AsyncClient"),
        (SIEAsyncClient, httpx2.Client(), "an httpx2.AsyncClient, got httpx2.Client"),
        (SIEClient, {}, "an httpx2.Client, got builtins.dict"),
    ],
)
def test_an_http_client_of_another_kind_is_refused(client_class, given, message):
    with pytest.raises(TypeError, match=f"^http_client must be {message}$"):
        client_class(BASE_URL, http_client=given)


@pytest.mark.parametrize(
    ("base_url", "message"),
    [
        (BASE_URL, rf"no \({BASE_URL}/v1/score/m\); check that {BASE_URL} is the address of an SIE server"),
        (f"{BASE_URL}/v1", rf"nearest route is {BASE_URL}/v1/score/m: try the base URL {BASE_URL}"),
        (f"{BASE_URL}/p/v1/rerank/", rf"nearest route is {BASE_URL}/p/v1/score/m: try the base URL {BASE_URL}/p"),
        (f"{BASE_URL}/rerank", rf"nearest route is {BASE_URL}/v1/score/m: try the base URL {BASE_URL}"),
        (
            "http://u:secret@h/v1",
            r"no \(http://h/v1/v1/score/m\); the nearest route is http://h/v1/score/m: try the .* http://h",
        ),
    ],
)
def test_a_missing_route_is_answered_with_the_nearest(connect, base_url, message):
    with pytest.raises(errors.RequestError, match=f"{message}$"):
        connect(Server(refused(404)), base_url=base_url).score("m", QUERY, ITEMS)
    with pytest.raises(errors.RequestError, match=r"^no$"):
        connect(Server(refused(404, "MODEL_NOT_FOUND")), base_url=base_url).score("m", QUERY, ITEMS)


def test_a_server_is_waited_for_longer_once_it_has_responded(connect, fake_time):
    server = Server(httpx2.ConnectError("refused"))
    client = connect(server)
    with pytest.raises(errors.SIEConnectionError):
        client.score("m", QUERY, ITEMS)
    assert fake_time.pauses == [0.5, 1.0, 2.0]
    server.answers = [packed(SCORED), httpx2.ConnectError("refused")]
    client.score("m", QUERY, ITEMS)
    since = fake_time.now
    with pytest.raises(errors.SIEConnectionError):
        client.score("m", QUERY, ITEMS)
    assert 890 < fake_time.now - since <= 900


def test_a_server_that_never_responded_is_waited_for_if_asked(connect, fake_time):
    with pytest.raises(errors.SIEConnectionError):
        connect(Server(httpx2.ConnectError("refused"))).score("m", QUERY, ITEMS, provision_timeout_s=60)
    assert sum(fake_time.pauses) > 50


def parameters(owner, name):
    return dict(inspect.signature(getattr(owner, name)).parameters)
