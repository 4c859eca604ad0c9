"""The builder that Ray Serve calls with the arguments of a `serve run`, or of an application of a Serve config."""

import warnings
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

from sie_server.ray.arguments import Arguments
from sie_server.ray.replica import Replica

# Our own limits count tokens, so Ray's only has to be out of the way.
_MOST_REQUESTS = 10_000
# After the last answer: the engine stops its threads.
_CLOSE_S = 15.0
# Replicas tell the router of their queues at this interval, and are checked.
_REPORT_S = 1.0
_CHECK_S = 2.0
# Replicas tell the controller of their queues at this interval; it decides by their averages.
_METRICS_S = 2.0
_AVERAGED_S = 10.0


def app(arguments: Arguments) -> Application:
    """The application: replicas of the server of `serve`, each with an engine of its own."""
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name="sie",
        ray_actor_options={"num_cpus": arguments.num_cpus, "num_gpus": arguments.num_gpus},
        **_number(arguments),
        max_ongoing_requests=_MOST_REQUESTS,
        request_router_config=RequestRouterConfig(
            request_router_class="sie_server.ray.router:ModelRouter",
            request_routing_stats_period_s=_REPORT_S,
        ),
        graceful_shutdown_timeout_s=arguments.drain_s + _CLOSE_S,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=_CHECK_S,
        # New replicas start before old ones stop.
        max_surge_percent=arguments.max_surge_percent,
        # Ours says more, and is off by default.
        logging_config={"enable_access_log": False},
    )
    return deployment.bind(arguments)


def _number(arguments: Arguments) -> dict[str, Any]:
    """The number of replicas, fixed or by the load."""
    if arguments.max_replicas is None:
        return {"num_replicas": arguments.replicas or 1}
    policy = AutoscalingPolicy(
        policy_function="sie_server.ray.autoscaling:QueueSeconds",
        policy_kwargs={"target_s": arguments.target_queue_seconds},
    )
    with warnings.catch_warnings():
        # Ray announces a variable in place of this interval, which replicas do not read yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        config = AutoscalingConfig(
            min_replicas=arguments.min_replicas or 1,
            max_replicas=arguments.max_replicas,
            metrics_interval_s=_METRICS_S,
            look_back_period_s=_AVERAGED_S,
            upscale_delay_s=arguments.upscale_delay_s,
            downscale_delay_s=arguments.downscale_delay_s,
            policy=policy,
        )
    return {"autoscaling_config": config}
