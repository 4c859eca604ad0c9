"""A client far from the version of the interface is named in the log, once."""

import pytest

from sie_server.http.version_skew import VersionSkew


@pytest.fixture(autouse=True)
def version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sie_server.http.version_skew.CONTRACT_VERSION", "1.4.2")


@pytest.mark.parametrize("sdk", ["1.4.0", "1.3.9", "1.5.0rc1", None, "", "unknown", "x.y", "1", "9" * 60 + ".1"])
def test_near_and_unreadable_versions_are_silent(sdk: str | None, caplog: pytest.LogCaptureFixture) -> None:
    VersionSkew().check(sdk)
    assert not caplog.records


@pytest.mark.parametrize("sdk", ["0.4.2", "2.0.0", "1.2.9", "1.6.0"])
def test_far_versions_are_logged_once(sdk: str, caplog: pytest.LogCaptureFixture) -> None:
    skew = VersionSkew()
    for _ in range(3):
        skew.check(sdk)
    assert len(caplog.records) == 1
    assert sdk.rpartition(".")[0] in caplog.text


def test_a_flood_of_versions_ends(caplog: pytest.LogCaptureFixture) -> None:
    skew = VersionSkew()
    for major in range(2, 500):
        skew.check(f"{major}.0.0")
    assert len(caplog.records) == 100
