"""Work with a model that must not be unloaded meanwhile."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from sie_server.models.loaded_model import LoadedModel

if TYPE_CHECKING:
    from sie_server.engine.engine import Engine

T = TypeVar("T")
P = ParamSpec("P")
Work = Callable[Concatenate["Engine", LoadedModel, P], Coroutine[Any, Any, T]]


def in_use(work: Work[P, T]) -> Work[P, T]:
    """The model is in use from the first step of the work to the last, tokenization included."""

    @wraps(work)
    async def used(engine: "Engine", model: LoadedModel, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with engine.residency.using(model):
            return await work(engine, model, *args, **kwargs)

    return used
