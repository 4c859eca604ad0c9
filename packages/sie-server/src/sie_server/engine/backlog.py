"""Waiting tokens, by model and sender."""

from collections import Counter

from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.options import Priority

# The unit of fairness: a client in a priority class.
Sender = tuple[str, Priority]


class Backlog:
    """Counts of waiting tokens by sender, and by model and sender. Entries that fall to zero are removed."""

    def __init__(self) -> None:
        self.tokens = 0
        self._by_sender: dict[Sender, int] = {}
        self._by_model: dict[str, dict[Sender, int]] = {}

    def count(self, model_id: str, params: SchedulingParams, tokens: int) -> None:
        """Add `tokens` waiting tokens, or remove them if negative."""
        sender = (params.client, params.priority)
        self.tokens += tokens
        senders_of_model = self._by_model.get(model_id)
        if senders_of_model is None:
            senders_of_model = self._by_model[model_id] = {}
        for counts in (self._by_sender, senders_of_model):
            counts[sender] = counts.get(sender, 0) + tokens
            if not counts[sender]:
                del counts[sender]
        if not senders_of_model:
            del self._by_model[model_id]

    @property
    def only_model(self) -> str | None:
        """The model of all waiting tokens; None: there are several, or no tokens."""
        return next(iter(self._by_model)) if len(self._by_model) == 1 else None

    def by_model(self) -> Counter[str]:
        """Tokens by model; only models that have some."""
        return Counter({model_id: sum(senders.values()) for model_id, senders in self._by_model.items()})

    def by_sender(self, model_id: str | None = None) -> Counter[Sender]:
        """Tokens by sender, for one model or for all."""
        return Counter(self._by_sender if model_id is None else self._by_model.get(model_id, {}))
