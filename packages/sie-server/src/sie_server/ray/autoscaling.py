"""The autoscaling policy of the application: replicas by the seconds of queued work."""

from ray.serve.config import AutoscalingContext

# Share of their time that the remaining replicas may compute after a scale-down: above it, queues grow.
_MOST_BUSY = 0.7
# A queue of many seconds says that replicas are missing, but not how many.
_MOST_GROWTH = 2


class QueueSeconds:
    """Keeps the queued work of each replica at `target_s` seconds, on average; Ray applies the bounds and the delays.

    The metrics are those of `Replica.record_autoscaling_stats`. A short queue on busy replicas is no reason to have
    fewer of them.
    """

    def __init__(self, target_s: float) -> None:
        self._target_s = target_s

    def __call__(self, context: AutoscalingContext) -> tuple[float, dict[str, float]]:
        """The number of replicas that are needed, and a state, which is empty."""
        metrics, replicas = context.aggregated_metrics or {}, context.current_num_replicas
        seconds = metrics.get("queue_seconds", {})
        if not seconds or not replicas:
            return context.target_num_replicas, {}
        queued = sum(seconds.values()) / self._target_s
        busy = sum(metrics.get("busy", {}).values()) / _MOST_BUSY
        return max(min(queued, _MOST_GROWTH * replicas), min(busy, replicas)), {}
