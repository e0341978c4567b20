"""What an environment hears of an end that it did not decide itself."""

import pytest

from tinker_rl.completers import TokenCompleter, TokensWithLogprobs
from tinker_rl.envs import Env, StepResult, StopReason
from tinker_rl.errors import PromptTooLongError
from tinker_rl.rl.episode import do_single_rollout
from tinker_rl.rl.limits import RolloutLimits
from tinker_rl.rl.outcomes import Completed, EnvFailure
from tinker_rl.types import ModelInput

PROMPT = ModelInput.from_ints([1])
LIMITS = {
    StopReason.MAX_TURNS: {"max_turns": 2},
    StopReason.MAX_SAMPLED_TOKENS: {"max_sampled_tokens": 4},
    StopReason.ROLLOUT_TIMEOUT: {"max_seconds": 3.5},
    StopReason.CONTEXT_OVERFLOW: {},
}
"""Each leaves room for two turns, as the policy below takes them."""


class Hears(Env):
    """Keeps what it is told; ends after `turns`, or fails then."""

    def __init__(self, run, turns=9, fails=False, late_by=0, error=None):
        self.run = run
        self.turns = turns
        self.fails = fails
        self.late_by = late_by
        self.error = error
        self.told = []

    async def initial_observation(self):
        return PROMPT, [0]

    async def step(self, action):
        self.turns -= 1
        if self.fails and not self.turns:
            raise ValueError("broken")
        return StepResult(1.0, not self.turns, PROMPT, [0])

    async def on_early_end(self, stop_reason):
        self.told.append(stop_reason)
        await self.run.pause(self.late_by)
        if self.error is not None:
            raise self.error


class Says(TokenCompleter):
    """Two tokens a turn, after 1, 2 and 3 seconds; at the third the context may be full."""

    def __init__(self, run, reason):
        self.run = run
        self.is_full = reason is StopReason.CONTEXT_OVERFLOW
        self.turn = 0

    async def __call__(self, model_input, stop, *, max_tokens=None):
        self.turn += 1
        await self.run.pause(self.turn)
        if self.turn == 3 and self.is_full:
            raise PromptTooLongError("full")
        return TokensWithLogprobs([5, 0], [-1.0, -1.0])


def until(virtual, reason, env):
    """What comes of an episode that has room for two turns."""
    limits = RolloutLimits(**LIMITS[reason])
    return virtual(do_single_rollout, Says(virtual, reason), env, limits)


@pytest.mark.parametrize("reason", LIMITS)
def test_an_environment_hears_once_of_an_end_that_it_did_not_decide(virtual, reason):
    env = Hears(virtual)
    assert until(virtual, reason, env).limit == reason
    assert env.told == [reason]
    ends_first, fails_first = Hears(virtual, turns=2), Hears(virtual, turns=2, fails=True)
    assert isinstance(until(virtual, reason, ends_first), Completed)
    assert isinstance(until(virtual, reason, fails_first), EnvFailure)
    assert ends_first.told == fails_first.told == []


@pytest.mark.parametrize("reason", LIMITS)
def test_an_environment_that_breaks_or_waits_at_its_end_has_failed(virtual, reason):
    broken = until(virtual, reason, Hears(virtual, error=ValueError("broken")))
    assert (broken.where, broken.error_type) == ("on_early_end", "ValueError")
    assert len(broken.unfinished.transitions) == 2
    late = until(virtual, reason, Hears(virtual, late_by=700))
    assert (late.where, late.error_type) == ("on_early_end", "TimeoutError")
