"""Work in steps, between which others have their turn, and its client may have gone."""

from collections.abc import Callable, Generator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

S = TypeVar("S")
T = TypeVar("T")
P = ParamSpec("P")

# Yields, before a step, about how many characters it reads; returns what comes of them all.
Steps = Generator[int, None, T]
# A step that reads more may take a second: all of a text that can't be read in parts.
LONG = 2**16


def finished(steps: Steps[T]) -> T:
    """What comes of the steps, one after the other."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result


def one_step(work: Callable[[], T]) -> Steps[T]:
    """Work that is a single step."""
    yield 0
    return work()


def emptied(elements: list[Any]) -> None:
    """Takes all elements out of a list. To free many at once would keep every other thread waiting."""
    while elements:
        elements.pop()


class Stepwise(Generic[P, T]):
    """A method whose `steps` can be taken one by one. To call it is to take them all."""

    def __init__(self, steps: Callable[P, Steps[T]]) -> None:
        self.steps = steps

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        return finished(self.steps(*args, **kwargs))


class stepwise(Generic[S, P, T]):  # noqa: N801 # a decorator
    """Makes a `Stepwise` method of a generator."""

    def __init__(self, work: Callable[Concatenate[S, P], Steps[T]]) -> None:
        self._work = work
        self.__doc__ = work.__doc__

    def __get__(self, instance: S, owner: type[S]) -> Stepwise[P, T]:
        return Stepwise(self._work.__get__(instance, owner))
