"""The answer of TEI's `/predict`: a label with a score for each pair; of a single pair, no list around it."""

from msgspec import Struct, field

from sie_server.api.dialects.dialect import Dialect, Ranked, Written

LABEL = "LABEL_0"


class Prediction(Struct, gc=False):
    """A label of a text or pair. Rerankers have one label."""

    score: float
    label: str = LABEL


class Predictions(Struct):
    predictions: list[Prediction | list[Prediction]] = field(default_factory=list)


def _predict(ranked: Ranked) -> Written:
    predictions = map(Prediction, ranked.scores)
    found = predictions if ranked.request.alone else ([prediction] for prediction in predictions)
    return Written(Predictions(), "predictions", iter(found))


PREDICT = Dialect("tei", _predict, Predictions, bare=True, in_order=True, plain_errors=True, busy=429)
