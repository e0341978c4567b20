"""An environment of a user's, tested by pytest in one line."""

import os
import subprocess
import sys

TESTS = '''
from tinker_rl.envs import Env, StepResult
from tinker_rl.testing import env_test
from tinker_rl.types import ModelInput


class Parrot(Env):
    """Wants to hear a 1."""

    is_over = False

    async def initial_observation(self):
        return ModelInput.from_ints([1]), [0]

    async def step(self, action):
        if self.is_over:
            raise RuntimeError("over")
        self.is_over = True
        return StepResult(float(action == [1, 0]), True, ModelInput.empty(), [0])


class Deaf(Parrot):
    async def step(self, action):
        if action[0] == 1:
            return StepResult(1.0, True, ModelInput.empty(), [0])
        return await super().step(action)


test_parrot = env_test(Parrot, renderer=9)
test_deaf = env_test(Deaf, renderer=9, max_examples=5)
'''


def test_a_line_in_a_file_of_tests_checks_an_environment(tmp_path):
    file = tmp_path / "test_mine.py"
    file.write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        [*command, str(file)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert "FAILED test_mine.py::test_deaf" in done.stdout
    assert "check_env: the property 'answers_any_action' does not hold" in done.stdout
    line = TESTS.splitlines().index("        if action[0] == 1:") + 1
    assert f"at {file}:{line}" in done.stdout
    assert 'check_env(Deaf, replay="' in done.stdout
    assert "check_env.py" not in done.stdout
    assert len(done.stdout.splitlines()) < 30
