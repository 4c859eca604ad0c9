"""The choice of the replicas that load a model, and of the one that gets a request."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from hashlib import blake2b


def preference(model: str, replica: str) -> int:
    """A replica's weight for a model; the highest wins (rendezvous hashing, Thaler and Ravishankar 1998).

    Every proxy computes the same, and without one replica the order of the others is as before.
    """
    digest = blake2b(f"{model}\0{replica}".encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


def preferred(model: str, replicas: Iterable[str], owners: int) -> list[str]:
    """The replicas that are preferred for a model, up to `owners` of them, the most preferred first."""
    return sorted(replicas, key=lambda replica: -preference(model, replica))[:owners]


class Placement:
    """The owners of each model among the replicas that are ready: as few loads as possible, evenly divided.

    The owners of a model are replicas that have it in memory, or else those that own the fewest models; among equals,
    rendezvous hashing decides. With one owner each, M models over N replicas are at most ceil(M / N) per
    replica. If a replica is removed, only its models move; one that is added gets models of the fullest, until
    the numbers are even again, and no others move. It remembers every model that it is asked for.
    """

    def __init__(self) -> None:
        self._owners = 1
        self._owned: dict[str, set[str]] = {}
        self._loaded: Mapping[str, Collection[str]] = {}

    def update(self, loaded: Mapping[str, Collection[str]], owners: int) -> None:
        """Take note of the replicas that are ready now, each with the models that it has in memory.

        owners: replicas per model.
        """
        if owners != self._owners:
            self._owners, self._owned = owners, {}
        self._loaded = loaded
        joined = [replica for replica in loaded if replica not in self._owned]
        self._owned = {replica: self._owned.get(replica, set()) for replica in loaded}
        for replica in joined:
            self._fill(replica)

    def of(self, model: str) -> list[str]:
        """The owners of a model, the preferred one first; all replicas if they are fewer than its owners."""
        owners = [replica for replica, models in self._owned.items() if model in models]
        others = self._owned.keys() - owners
        while others and len(owners) < self._owners:
            chosen = min(others, key=lambda replica: self._cost(model, replica))
            others.discard(chosen)
            self._owned[chosen].add(model)
            owners.append(chosen)
        return preferred(model, owners, self._owners)

    def _cost(self, model: str, replica: str) -> tuple[bool, int, int]:
        return model not in self._loaded[replica], len(self._owned[replica]), -preference(model, replica)

    def _fill(self, joined: str) -> None:
        """Give a replica that has joined models of those that own the most."""
        while True:
            fullest = max(self._owned, key=lambda replica: (len(self._owned[replica]), preference(joined, replica)))
            movable = self._owned[fullest] - self._owned[joined]
            if len(self._owned[fullest]) - len(self._owned[joined]) < 2 or not movable:
                return
            moved = max(movable, key=lambda model: preference(model, joined))
            self._owned[fullest].discard(moved)
            self._owned[joined].add(moved)


def in_order(
    owners: Sequence[str], replicas: Iterable[str], work: Callable[[str], tuple[float, int]], spill_s: float
) -> list[str]:
    """All replicas, in the order in which a request for a model is offered to them.

    The owner with the least queued work comes first, and the other owners next. If every owner has more than `spill_s`
    seconds of work, the replica with the least of all comes first. work: seconds of queued work of a replica, and the
    requests sent to it since it said so.
    """
    first = sorted(owners, key=work)
    rest = sorted((replica for replica in replicas if replica not in owners), key=work)
    if rest and (not first or (work(first[0])[0] > spill_s and work(rest[0]) < work(first[0]))):
        return [rest[0], *first, *rest[1:]]
    return [*first, *rest]
