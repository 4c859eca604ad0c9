"""The builder that Ray Serve calls with the arguments of a `serve run`, or of an application of a Serve config."""

from ray import serve
from ray.serve import Application

from sie_server.ray.arguments import Arguments
from sie_server.ray.replica import Replica

# Our own limits count tokens, so Ray's only has to be out of the way.
_MOST_REQUESTS = 10_000
# After the last answer: the engine stops its threads.
_CLOSE_S = 15.0


def app(arguments: Arguments) -> Application:
    """The application: replicas of the server of `serve`, each with an engine of its own."""
    options = {"num_cpus": arguments.num_cpus, "num_gpus": arguments.num_gpus}
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name="sie",
        ray_actor_options=options,
        max_ongoing_requests=_MOST_REQUESTS,
        num_replicas=arguments.replicas or 1,
        graceful_shutdown_timeout_s=arguments.drain_s + _CLOSE_S,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=2.0,
        max_surge_percent=100,
        # Ours says more, and is off by default.
        logging_config={"enable_access_log": False},
    )
    return deployment.bind(arguments)
