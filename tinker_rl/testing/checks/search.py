"""Looking for the smallest case that breaks something."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from tinker_rl.testing.extra import errors, hypothesis, st

__all__ = ["smallest_failure", "some_values"]

MAX_SHRINKS = 60
"""Cases that are looked at to make a failing one smaller: a number, not seconds, so that the same
call always shows the same."""


class _Failure(Protocol):
    @property
    def size(self) -> tuple[int, ...]: ...


T = TypeVar("T")
F = TypeVar("F", bound=_Failure)


class _Found(Exception):
    """To hypothesis, a case that fails."""


class _Search(Generic[T, F]):
    def __init__(self, examine: Callable[[T, F | None], F | None], shrinks: Callable[[F], bool]):
        self._examine = examine
        self._shrinks = shrinks
        self._left: int | None = None
        self.best: F | None = None

    def __call__(self, case: T) -> None:
        if self._left is not None:
            if self._left == 0:
                return  # hypothesis takes it for a case that is well, and stops
            self._left -= 1
        failure = self._examine(case, self.best)
        if failure is None:
            return
        if self.best is None:
            self._left = MAX_SHRINKS if self._shrinks(failure) else 0
        if self.best is None or failure.size <= self.best.size:
            self.best = failure
        raise _Found


def smallest_failure(
    strategy: st.SearchStrategy[T],
    examine: Callable[[T, F | None], F | None],
    *,
    max_examples: int,
    explore: bool,
    shrinks: Callable[[F], bool],
) -> F | None:
    """The smallest failure among cases of a strategy; None if all are well.

    Args:
        strategy: Draws cases.
        examine: Says what is wrong with a case; told the best failure so far, whose kind it is to
            look for.
        max_examples: Cases to look at, while all are well.
        explore: Whether to look at other cases each time.
        shrinks: Whether a failure is cheap enough to look for smaller ones.
    """
    search = _Search(examine, shrinks)

    @_settings(max_examples, explore, hypothesis.Phase.generate, hypothesis.Phase.shrink)
    @hypothesis.given(strategy)
    def cases(case: T) -> None:
        search(case)

    # Flaky: enough of shrinking, or an environment that fails now and then.
    with contextlib.suppress(_Found, errors.Flaky):
        cases()
    return search.best


def some_values(strategy: st.SearchStrategy[T], number: int) -> list[T]:
    """Values that a strategy draws, always the same ones, at most so many; some may be equal."""
    drawn: list[T] = []

    @_settings(number, False, hypothesis.Phase.generate)
    @hypothesis.given(strategy)
    def draw(value: T) -> None:
        drawn.append(value)

    draw()
    return drawn


def _settings(max_examples: int, explore: bool, *phases: hypothesis.Phase) -> hypothesis.settings:
    checks: Any = list(hypothesis.HealthCheck)
    return hypothesis.settings(
        max_examples=max_examples,
        database=None,
        deadline=None,
        derandomize=not explore,
        report_multiple_bugs=False,
        suppress_health_check=checks,
        phases=phases,
        verbosity=hypothesis.Verbosity.quiet,
        print_blob=False,
    )
