"""What waits, and whose it is."""

from collections import Counter

from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.options import Priority

# Whoever shares a queue with others as one: a client in a class of priority.
Sender = tuple[str, Priority]


class Backlog:
    """Tokens that wait, counted by sender, and by model and sender. Who has none is forgotten."""

    def __init__(self) -> None:
        self.tokens = 0
        self._of_all: Counter[Sender] = Counter()
        self._of_model: dict[str, Counter[Sender]] = {}

    def count(self, model_id: str, params: SchedulingParams, tokens: int) -> None:
        """So many more, or fewer."""
        sender = (params.client, params.priority)
        self.tokens += tokens
        of_model = self._of_model.setdefault(model_id, Counter())
        for counts in (self._of_all, of_model):
            counts[sender] += tokens
            if not counts[sender]:
                del counts[sender]
        if not of_model:
            del self._of_model[model_id]

    def by_model(self) -> Counter[str]:
        """Tokens of each model that has some."""
        return Counter({model_id: senders.total() for model_id, senders in self._of_model.items()})

    def by_sender(self, model_id: str | None = None) -> Counter[Sender]:
        """Tokens of each sender, for one model or for all."""
        return Counter(self._of_all if model_id is None else self._of_model.get(model_id))
