"""step is written anew, without what the class above makes sure of."""

from broken.base import group, renderer

from tinker_rl.envs import ProblemEnv, StepResult
from tinker_rl.types import ModelInput

PROPERTY = "nothing_after_end"


class Echo(ProblemEnv):
    def get_question(self):
        return "Say 7."

    def check_answer(self, sample_str):
        return sample_str == "7"

    def check_format(self, sample_str):
        return len(sample_str) == 1

    def get_reference_answer(self):
        return "7"


class OwnStep(Echo):
    async def step(self, action, *, extra=None):
        message, _ = self.renderer.parse_response(action)
        right = float(message["content"] == "7")
        return StepResult(right, True, ModelInput.empty(), self.stop_condition)


def broken():
    return group(OwnStep, renderer())


def mended():
    return group(Echo, renderer())
