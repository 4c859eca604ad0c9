"""Every row of the retry table."""

import json
from collections import Counter
from pathlib import Path

import pytest

from sie_sdk import errors, retry

TABLE = json.loads((Path(__file__).parent / "retry_table.json").read_text())
NOW = TABLE["now"]


def decide(row, draw):
    options = retry.RetryOptions(
        wait_for_capacity=row.get("wait_for_capacity", True),
        max_oom_retries=row.get("max_oom_retries", 3),
        inference=row.get("inference", True),
    )
    retries = Counter(row.get("retries", {}))
    if "failure" in row:
        return retry.after_failure(row["failure"], retries, options, draw=draw)
    headers = {"retry-after": row["header"]} if "header" in row else {}
    return retry.after_response(row["status"], row.get("code"), headers, retries, options, draw=draw, now_s=NOW)


@pytest.mark.parametrize("row", TABLE["decisions"], ids=lambda row: row["name"])
def test_decision(row):
    patient, hasty = decide(row, draw=0.0), decide(row, draw=1.0)
    if "raise" in row:
        assert patient is None
        assert hasty is None
        raised = errors.SIEConnectionError if "failure" in row else errors.error_class(row["status"], row.get("code"))
        assert raised.__name__ == row["raise"]
    else:
        assert patient.delay_s == pytest.approx(row["delay_s"])
        assert hasty.delay_s == pytest.approx(row["delay_s"] * (0.75 if row.get("jitter") else 1.0))


@pytest.mark.parametrize("row", TABLE["retry_after"], ids=lambda row: repr(row["header"]))
def test_retry_after(row):
    assert retry.parse_retry_after(row["header"], NOW) == row["seconds"]
