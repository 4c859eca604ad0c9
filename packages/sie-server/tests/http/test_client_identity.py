"""Whose request it is: by the key or the address, whatever the spelling."""

from contextlib import ExitStack
from typing import Any

import pytest

from sie_server.http.api_keys import ApiKeys
from sie_server.http.client_identity import MOST_NAMES, Clients

ADDRESS = ("192.0.2.1", 4711)


def scope(authorization: str | None, client: tuple[str, int] = ADDRESS) -> dict[str, Any]:
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    return {"type": "http", "path": "/v1/score/m", "headers": headers, "client": client}


def named(clients: Clients, asked: dict[str, Any]) -> str:
    with clients.present(asked) as name:
        return name


SPELLINGS = ["Bearer secret", "bEaRer secret", "bearer   secret", "BEARER secret  ", "  Bearer secret"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_key_is_one_client_however_it_is_spelled(spelling: str) -> None:
    keys, clients, names = ApiKeys(["secret", "other"], None), Clients(), []
    for asked in (scope("Bearer secret"), scope(spelling.lstrip(), ("198.51.100.9", 1)), scope("Bearer other")):
        assert keys.refusal(asked) is None
        names.append(named(clients, asked))
    assert names[0] == names[1] != names[2]
    assert "secret" not in names[0]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_token_without_keys_is_one_client_however_it_is_spelled(spelling: str) -> None:
    clients = Clients()
    assert named(clients, scope("Bearer secret")) == named(clients, scope(spelling))
    assert named(clients, scope("Bearer secret")) != named(clients, scope("Bearer other"))
    assert named(clients, scope("Bearer secret")) != named(clients, scope("Bearer secret", ("192.0.2.2", 1)))


def test_unverified_tokens_give_an_address_eight_shares_and_one_for_the_rest() -> None:
    clients = Clients()
    with ExitStack() as stack:
        names = [stack.enter_context(clients.present(scope(f"Bearer {n}"))) for n in range(100)]
        assert len(set(names)) == MOST_NAMES + 1
        # Whoever was there keeps its name, and other addresses have theirs.
        assert named(clients, scope("Bearer 0")) == names[0]
        assert named(clients, scope("Bearer 0", ("192.0.2.2", 1))) not in names
    assert named(clients, scope("Bearer 99")) not in names[-1:]


def test_an_ipv6_network_is_one_address() -> None:
    clients = Clients()
    of = [named(clients, scope(None, (ip, 1))) for ip in ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1")]
    assert of[0] == of[1] != of[2]
    assert named(clients, scope(None, ("::ffff:192.0.2.1", 1))) == named(clients, scope(None))
