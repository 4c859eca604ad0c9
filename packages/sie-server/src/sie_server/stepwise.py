"""Work in steps, between which other work takes its turn and the client may have disconnected."""

from collections.abc import Callable, Generator, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

S = TypeVar("S")
T = TypeVar("T")
Part = TypeVar("Part")
P = ParamSpec("P")

# Yields, before each step, the estimated number of characters that it reads; returns the result of all steps.
Steps = Generator[int, None, T]
# Characters of a long step: a text that can't be read in parts may take a second.
LONG_STEP = 2**16
# Parts of a list, such as sequences to be built, in a step.
_PARTS_PER_STEP = 2**9


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


def build_in_steps(parts: Sequence[Part], make: Callable[[Part], T]) -> Steps[list[T]]:
    """Apply `make` to each part, yielding between steps."""
    return (yield from in_steps(parts, lambda some: [*map(make, some)]))


def in_steps(parts: Sequence[Part], make: Callable[[Sequence[Part]], list[T]]) -> Steps[list[T]]:
    """Apply `make` to some parts at a time, yielding between steps."""
    if len(parts) <= _PARTS_PER_STEP:
        return make(parts)
    results: list[T] = []
    for start in range(0, len(parts), _PARTS_PER_STEP):
        if start:
            yield 0
        results += make(parts[start : start + _PARTS_PER_STEP])
    return results


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
