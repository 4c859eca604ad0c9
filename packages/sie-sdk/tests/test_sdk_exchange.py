"""Calls keep their time budget; tested without real waiting."""

import logging
import math

import pytest

from sie_sdk import errors
from sie_sdk._core.exchange import Attempt, Call, Failure, Pause, ServerHistory, Trace, exchange
from sie_sdk._core.reply import ErrorContext, Reply
from sie_sdk.retry import RetryOptions


def call(**changes):
    arguments = {
        "method": "POST",
        "url": "http://sie.test/v1/score/m",
        "headers": {},
        "body": b"",
        "parse": lambda reply: reply.content,
        "context": ErrorContext("http://sie.test", "/v1/score/m", model="m"),
        "retrying": RetryOptions(),
        "budget_s": 60.0,
        "unreached_s": 60.0,
        "connect_timeout_s": 10.0,
        "read_timeout_s": 150.0,
    }
    return Call(**arguments | changes)


def run(fake_time, the_call, answer, *, trace=None):
    """Drives an exchange: `answer(attempt)` returns the reply or the failure, and may let time pass."""
    attempts = []
    steps = exchange(the_call, trace or Trace(), ServerHistory(), fake_time.clock())
    sent = None
    while True:
        try:
            step = steps.send(sent)
        except StopIteration as end:
            return end.value, attempts
        if isinstance(step, Pause):
            sent = fake_time.sleep(step.seconds)
        else:
            attempts.append(step)
            sent = answer(step)


def busy(code, status=503, *, retry_after=None):
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return Reply(status, headers, b'{"detail":{"code":"%s"}}' % code)


def test_success_at_once(fake_time):
    value, attempts = run(fake_time, call(), lambda _: Reply(200, {}, b"yes"))
    assert value == b"yes"
    assert fake_time.pauses == []
    assert attempts == [Attempt("POST", "http://sie.test/v1/score/m", {}, b"", 60.0, 10.0, 60.0, 60.0)]


def test_waits_until_loaded(fake_time):
    answers = iter([busy(b"MODEL_LOADING", retry_after="5"), busy(b"MODEL_LOADING"), Reply(200, {}, b"yes")])
    trace = Trace()
    fake_time.draw = 1.0
    value, _ = run(fake_time, call(), lambda _: next(answers), trace=trace)
    assert value == b"yes"
    assert fake_time.pauses == [5.0, 3.75]
    assert trace.retries == {"loading": 2}


def test_read_timeout_is_capped_to_what_is_left(fake_time):
    answers = iter([*[busy(b"MODEL_LOADING", retry_after="20")] * 2, Reply(200, {}, b"yes")])
    _, attempts = run(fake_time, call(budget_s=45.0, read_timeout_s=30.0), lambda _: next(answers))
    assert [attempt.read_timeout_s for attempt in attempts] == [30.0, 25.0, 5.0]
    assert [attempt.connect_timeout_s for attempt in attempts] == [10.0, 10.0, 5.0]


def test_gives_up_when_the_budget_is_spent(fake_time):
    start = fake_time.now
    with pytest.raises(errors.ModelLoadingError) as caught:
        run(fake_time, call(), lambda _: busy(b"MODEL_LOADING", retry_after="7"))
    assert caught.value.model == "m"
    assert len(fake_time.pauses) == 8
    assert fake_time.now - start <= 60.0


def test_does_not_sleep_for_a_retry_that_would_come_too_late(fake_time):
    with pytest.raises(errors.RateLimitError) as caught:
        run(fake_time, call(), lambda _: busy(b"RATE_LIMIT", 429, retry_after="300"))
    assert caught.value.retry_after == 300.0
    assert fake_time.pauses == []


def test_time_spent_in_attempts_counts(fake_time):
    def slow(_):
        fake_time.now += 25.0
        return busy(b"QUEUE_FULL", retry_after="1")

    with pytest.raises(errors.ServerError, match="QUEUE_FULL"):
        run(fake_time, call(), slow)
    assert fake_time.pauses == [1.0, 1.0]


def test_no_attempt_after_a_pause_that_took_too_long(fake_time):
    sent = []

    def answer(attempt):
        sent.append(attempt)
        return busy(b"MODEL_LOADING", retry_after="5")

    fake_time.sleep = lambda _: setattr(fake_time, "now", fake_time.now + 100.0)
    with pytest.raises(errors.ModelLoadingError):
        run(fake_time, call(), answer)
    assert len(sent) == 1


def test_a_budget_of_zero_is_a_single_attempt_with_full_timeouts(fake_time):
    sent = []

    def answer(attempt):
        sent.append(attempt)
        return busy(b"MODEL_LOADING", retry_after="5")

    with pytest.raises(errors.ModelLoadingError):
        run(fake_time, call(budget_s=0.0), answer)
    [attempt] = sent
    assert (attempt.connect_timeout_s, attempt.read_timeout_s, attempt.total_s) == (10.0, 150.0, math.inf)


def test_refused_connection_is_tried_again(fake_time, caplog):
    answers = iter([*[Failure("connect", OSError("refused"))] * 6, Reply(200, {}, b"yes")])
    with caplog.at_level(logging.WARNING, "sie_sdk"):
        value, _ = run(fake_time, call(), lambda _: next(answers))
    assert value == b"yes"
    assert fake_time.pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert [record.getMessage() for record in caplog.records] == [
        "POST http://sie.test/v1/score/m: refused; retrying in 0.5 s, for up to 60 s in total"
    ]


def test_refused_connection_until_the_budget_is_spent(fake_time):
    start, cause = fake_time.now, OSError("refused")
    with pytest.raises(errors.SIEConnectionError, match="refused") as caught:
        run(fake_time, call(), lambda _: Failure("connect", cause))
    assert caught.value.kind == "connect"
    assert caught.value.__cause__ is cause
    assert fake_time.now - start <= 60.0


def test_read_timeout_is_not_tried_again(fake_time):
    with pytest.raises(errors.SIEConnectionError, match=r"TimeoutError: no response within 60 s") as caught:
        run(fake_time, call(), lambda _: Failure("timeout", TimeoutError()))
    assert caught.value.kind == "timeout"
    assert fake_time.pauses == []


def test_memory_retries_are_counted_in_the_error(fake_time):
    with pytest.raises(errors.ResourceExhaustedError) as caught:
        run(fake_time, call(), lambda _: busy(b"RESOURCE_EXHAUSTED", retry_after="5"))
    assert (caught.value.retries, caught.value.model) == (3, "m")
    assert fake_time.pauses == [5.0, 10.0, 20.0]


def test_reasons_are_counted_apart(fake_time):
    lora, memory = busy(b"LORA_LOADING", retry_after="1"), busy(b"RESOURCE_EXHAUSTED", retry_after="1")
    answers = iter([lora] * 9 + [memory] + [lora] + [Reply(200, {}, b"yes")])
    trace = Trace()
    run(fake_time, call(), lambda _: next(answers), trace=trace)
    assert trace.retries == {"lora": 10, "memory": 1}


@pytest.mark.parametrize(
    ("version", "warns"),
    [("0.10.1", 0), ("0.11.7", 0), ("0.12.0", 1), ("1.10.0", 1), ("unknown", 0), ("", 0), ("7", 0), (None, 0)],
)
def test_version_skew_is_reported_once(caplog, version, warns):
    history = ServerHistory()
    for _ in range(3):
        history.heard(Reply(200, {} if version is None else {"x-sie-server-version": version}, b""))
    assert len(caplog.records) == warns
