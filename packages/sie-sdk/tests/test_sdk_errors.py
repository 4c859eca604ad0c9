"""Every error of the server reaches the caller as one exception with the server's message."""

import pickle

import httpx2
import pytest
from sdk_stand_ins import Server, refused

import sie_sdk
from sie_sdk import errors, exceptions
from sie_sdk.client import errors as errors_of_client
from sie_sdk.types import Item


def raised(connect, response, **arguments):
    client = connect(Server(response))
    with pytest.raises(errors.SIEError) as caught:
        client.score("m", Item(text="q"), [Item(text="d")], provision_timeout_s=0, **arguments)
    return caught.value


def test_native_envelope(connect):
    headers = {"x-sie-request-id": "r-1", "x-sie-units-input": "12", "x-sie-credits-debited": "0.5"}
    error = raised(connect, refused(404, "MODEL_NOT_FOUND", "Model 'm' not found", headers))
    assert type(error) is errors.RequestError
    assert (str(error), error.code, error.status_code) == ("Model 'm' not found", "MODEL_NOT_FOUND", 404)
    assert error.request_id == "r-1"
    assert error.request == {"id": "r-1", "units": {"input": 12.0}, "credits_debited": 0.5}


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"detail": "Not Found"}, None, "Not Found"),
        ({"error": "no such thing"}, None, "no such thing"),
        ({"error": {"code": "X", "message": "openai says no", "param": "model"}}, "X", "openai says no"),
        ({"detail": {"error": {"code": "Y", "message": "nested"}}}, "Y", "nested"),
        ({"error": "shutting down", "detail": "Draining before shutdown."}, None, "Draining before shutdown."),
        ({"error": {"code": "Z", "message": "said twice"}, "detail": "text"}, "Z", "said twice"),
        ({"detail": [{"loc": ["model"]}]}, None, 'HTTP 400: {"detail":[{"loc":["model"]}]}'),
        ({"detail": {"code": 7, "message": ["?"]}}, None, 'HTTP 400: {"detail":{"code":7,"message":["?"]}}'),
        ([], None, "HTTP 400: []"),
    ],
)
def test_other_envelopes(connect, body, code, message):
    error = raised(connect, httpx2.Response(400, json=body))
    assert (error.code, str(error)) == (code, message)


def test_param_of_an_openai_error(connect):
    assert raised(connect, httpx2.Response(400, json={"error": {"message": "no", "param": "input"}})).param == "input"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "HTTP 500 with an empty body"),
        (b"<html>\n <h1>Bad   gateway", "HTTP 500: <html> <h1>Bad gateway"),
        (b"\xff" * 5, "HTTP 500: " + "\ufffd" * 5),
        (b"[" * 100_000, "HTTP 500: " + "[" * 200),
    ],
)
def test_an_error_without_an_error_body(connect, content, message):
    error = raised(connect, httpx2.Response(500, content=content))
    assert type(error) is errors.ServerError
    assert str(error) == message


def test_header_code_beats_body_code(connect):
    error = raised(connect, refused(400, "INVALID_INPUT", headers={"x-sie-error-code": "INPUT_TOO_LONG"}))
    assert type(error) is errors.InputTooLongError
    assert error.code == "INPUT_TOO_LONG"


def test_redirect_is_not_followed(connect):
    error = raised(connect, httpx2.Response(307, headers={"location": "https://elsewhere.test/"}))
    assert type(error) is errors.RequestError
    assert error.status_code == 307
    assert "https://elsewhere.test/" in str(error)


def test_load_failed_attributes(connect):
    error = raised(connect, refused(502, "MODEL_LOAD_FAILED", error_class="OOM", permanent=False, attempts=2))
    assert type(error) is errors.ModelLoadFailedError
    assert (error.model, error.error_class, error.permanent, error.attempts) == ("m", "OOM", False, 2)
    assert (error.code, error.status_code) == ("MODEL_LOAD_FAILED", 502)


def test_429_of_a_proxy_is_a_rate_limit(connect):
    assert type(raised(connect, httpx2.Response(429))) is errors.RateLimitError


def test_rate_limit_attributes(connect):
    error = raised(connect, refused(429, "RATE_LIMIT", headers={"retry-after": "3"}))
    assert type(error) is errors.RateLimitError
    assert error.retry_after == 3.0


def test_provisioning_attributes(connect):
    error = raised(connect, refused(503, "PROVISIONING", headers={"retry-after": "9"}))
    assert type(error) is errors.ProvisioningError
    assert (error.gpu, error.retry_after, error.status_code) == (None, 9.0, 503)


def test_lora_attributes(connect):
    error = raised(connect, refused(503, "LORA_LOADING"), options={"lora_id": "legal"})
    assert type(error) is errors.LoraLoadingError
    assert (error.lora, error.model) == ("legal", "m")


def test_server_error_retry_after(connect):
    error = raised(connect, refused(503, headers={"retry-after": "5"}))
    assert type(error) is errors.ServerError
    assert error.retry_after == 5.0


def test_errors_cross_process_borders(connect):
    error = raised(connect, refused(502, "MODEL_LOAD_FAILED", "broken", error_class="OOM"))
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), "broken", vars(error))


def test_constructor_takes_the_declared_attributes_only():
    assert errors.PoolError("full", pool_name="p", state="draining").state == "draining"
    with pytest.raises(TypeError, match="RateLimitError has no attribute 'model'"):
        errors.RateLimitError("no", model="m")


def test_every_error_is_public():
    names = [
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.SIEError)
    ]
    assert len(names) == 20
    for name in names:
        assert getattr(sie_sdk, name) is getattr(exceptions, name) is getattr(errors, name)
        assert getattr(errors_of_client, name) is getattr(errors, name)
