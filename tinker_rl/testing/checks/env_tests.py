"""A test of an environment in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinker_rl.testing.checks.builder_source import BuilderSource
from tinker_rl.testing.checks.check_env import check_env

__all__ = ["env_test"]


def env_test(builder: BuilderSource, **options: Any) -> Callable[[], None]:
    """A test function for pytest: `test_my_env = env_test(lambda: MyBuilder())`.

    Args:
        builder: As in `check_env`, like `options`.
        options: Its other arguments.
    """

    def test_environment() -> None:
        __tracebackhide__ = True  # pytest shows the finding, not the search for it
        check_env(builder, **options)

    return test_environment
