"""A bracket in the wrong place of a reward function, and how `check_env` finds it.

python examples/broken_bracket.py
"""

from functools import partial

from tinker_rl.envs import (
    EnvFromMessageEnv,
    MessageEnv,
    MessageStepResult,
    ProblemGroupBuilder,
    extract_boxed,
    load_renderer,
)
from tinker_rl.renderers import get_text_content
from tinker_rl.testing import EnvCheckError, check_env


class SumEnv(MessageEnv):
    """A sum: 1 for the right answer, and a tenth less if it is not in a box."""

    async def initial_observation(self):
        return [{"role": "user", "content": "What is 3 + 4? Answer in \\boxed{}."}]

    async def step(self, message):
        text = get_text_content(message)
        correct, format_ok = "7" in text, extract_boxed(text) is not None
        return MessageStepResult(
            reward=self.reward(correct, format_ok),
            episode_done=True,
            next_messages=[],
            metrics={"correct": float(correct), "format": float(format_ok)},
        )

    def reward(self, correct, format_ok):
        return 0.1 * format_ok - 1 + correct


class MendedSumEnv(SumEnv):
    def reward(self, correct, format_ok):
        return 0.1 * (format_ok - 1) + correct


def make_env(kind, renderer):
    # A message that does not end is as bad as a wrong one: no penalty of its own.
    return EnvFromMessageEnv(renderer, kind(), failed_parse_reward=-0.1)


def check(kind):
    """Check one of the two. What it may earn is all that has to be said of it."""
    builder = ProblemGroupBuilder(
        partial(make_env, kind, load_renderer("tiny", "qwen3_instruct")), num_envs=2
    )
    return check_env(builder, reward_range=(-0.1, 1.0), valid_actions=["\\boxed{7}", "7", "8"])


if __name__ == "__main__":
    try:
        check(SumEnv)
    except EnvCheckError as error:
        print(error)
    print(check(MendedSumEnv))
