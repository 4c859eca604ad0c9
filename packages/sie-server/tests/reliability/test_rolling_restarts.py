"""The examples for nginx and HAProxy lose nothing while servers behind them are restarted: reliability/rolling.py."""

import shutil

import pytest
from rolling import BALANCERS, rolling


@pytest.mark.long
def test_a_restart_behind_a_balancer_loses_nothing() -> None:
    installed = [name for name in BALANCERS if shutil.which(name) is not None]
    if not installed:
        pytest.skip("neither nginx nor haproxy is installed")
    calls = rolling(installed, restarts=1, notice_s=3)
    assert {(each.balancer, each.client, *each.failed) for each in calls} == {
        (name, client) for name in installed for client in ("small", "large", "SDK")
    }
    assert all(each.sent >= 6 for each in calls)
    if len(installed) < len(BALANCERS):
        pytest.skip(f"held behind {installed[0]}; the other one is not installed")
