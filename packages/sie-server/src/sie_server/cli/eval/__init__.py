"""`sie-server eval`: the ranking quality and the speed of models on judged queries."""
