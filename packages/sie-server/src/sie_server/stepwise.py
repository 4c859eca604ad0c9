"""Work in steps, between which other work takes its turn and the client may have disconnected."""

from collections.abc import Callable, Generator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

S = TypeVar("S")
T = TypeVar("T")
P = ParamSpec("P")

# Yields, before each step, the estimated number of characters that it reads; returns the result of all steps.
Steps = Generator[int, None, T]
# Characters of a long step: a text that can't be read in parts may take a second.
LONG_STEP = 2**16


def run_steps(steps: Steps[T]) -> T:
    """Run all steps and return their result."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result


def one_step(work: Callable[[], T]) -> Steps[T]:
    """Make steps of work that is a single one."""
    yield 0
    return work()


def clear_one_by_one(elements: list[Any]) -> None:
    """Remove the elements of a list one by one: freeing many at once would block every other thread."""
    while elements:
        elements.pop()


class Stepwise(Generic[P, T]):
    """A method that runs all of its steps when called; `steps` makes them to be run one by one."""

    def __init__(self, steps: Callable[P, Steps[T]]) -> None:
        self.steps = steps

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        return run_steps(self.steps(*args, **kwargs))


class stepwise(Generic[S, P, T]):  # noqa: N801 # a decorator
    """Decorator that makes a generator a `Stepwise` method."""

    def __init__(self, work: Callable[Concatenate[S, P], Steps[T]]) -> None:
        self._work = work
        self.__doc__ = work.__doc__

    def __get__(self, instance: S, owner: type[S]) -> Stepwise[P, T]:
        return Stepwise(self._work.__get__(instance, owner))
