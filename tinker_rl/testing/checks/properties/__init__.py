"""The rules that `check_env` checks, one function each."""

from tinker_rl.testing.checks.properties.registry import PROPERTIES

__all__ = ["PROPERTIES"]
