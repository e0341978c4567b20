"""The rules that every environment must keep, and what looks for a case that breaks one."""

from tinker_rl.testing.checks.check_env import check_env, check_env_async
from tinker_rl.testing.checks.env_tests import env_test
from tinker_rl.testing.checks.report import EnvCheckError, EnvCheckReport

__all__ = [
    "EnvCheckError",
    "EnvCheckReport",
    "check_env",
    "check_env_async",
    "env_test",
]
