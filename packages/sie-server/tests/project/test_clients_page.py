"""docs/clients.md is made of the held list of calls, which `make test-clients` makes."""

import re
from collections import Counter

from clients_page import PAGE, page
from held import LEAST, clients


def test_the_page_is_up_to_date() -> None:
    text = PAGE.read_text()
    assert page(text) == text, "run `make docs`"


def test_the_readme_has_the_numbers_of_the_page() -> None:
    readme = " ".join((PAGE.parents[1] / "README.md").read_text().replace("[", "").split())
    works, total, count = re.findall(r"(\d+) of (\d+) calls by (\d+) clients", PAGE.read_text())[0]
    assert f"{works} of {total} calls by {count} clients" in readme


def test_the_held_list_keeps_its_promise() -> None:
    held = clients()
    names = Counter(client.name for client in held)
    assert max(names.values()) == 1
    assert len(held) >= 40
    for client in held:
        calls = Counter((*client.works, *client.fails))
        assert calls
        assert max(calls.values()) == 1
        assert client.versions().count(" ") == max(2 * len(client.packages) - 1, 0)
    works = sum(len(client.works) for client in held)
    assert works >= LEAST * (works + sum(len(client.fails) for client in held))
    assert works >= 190
