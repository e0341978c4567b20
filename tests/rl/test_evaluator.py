import pytest

from tinker_rl.completers import ScriptedTokenCompleter, TokenCompleter, TokensWithLogprobs
from tinker_rl.envs import Env, EnvGroupBuilder, RLDataset, StepResult
from tinker_rl.errors import EnvError
from tinker_rl.rl import RLTestSetEvaluator, RolloutLimits
from tinker_rl.rl.interrupts import only_error
from tinker_rl.types import ModelInput


class Asks(Env, EnvGroupBuilder):
    """Right when the first token of the answer is the number asked for."""

    def __init__(self, number, broken=False):
        self.number = number
        self.broken = broken

    async def make_envs(self):
        if self.broken:
            raise OSError("no sandbox")
        return [self]

    async def initial_observation(self):
        return ModelInput.from_ints([self.number]), [0]

    async def step(self, action, *, extra=None):
        correct = float(action[0] == self.number)
        return StepResult(correct, True, ModelInput.empty(), [0], metrics={"correct": correct})

    def logging_tags(self):
        return ["even" if self.number % 2 == 0 else "odd"]


class Numbers(RLDataset):
    def __init__(self, numbers, broken=()):
        self.numbers = list(numbers)
        self.broken = set(broken)

    def get_batch(self, index):
        part = self.numbers[3 * index : 3 * index + 3]
        return [Asks(number, number in self.broken) for number in part]

    def __len__(self):
        return -(-len(self.numbers) // 3)


def echo_evens():
    return ScriptedTokenCompleter(lambda prompt: [t if t % 2 == 0 else 0 for t in prompt.to_ints()])


def test_every_problem_counts_once(run):
    progress = []
    evaluator = RLTestSetEvaluator(
        Numbers(range(1, 9)), 4, on_progress=lambda *counts: progress.append(counts)
    )
    metrics = run(evaluator.evaluate, echo_evens())
    assert metrics["test/env/all/correct"] == 0.5
    assert metrics["test/env/even/correct"] == 1.0
    assert metrics["test/env/odd/correct"] == 0.0
    assert metrics["test/env/all/total_episodes"] == 8
    assert progress == [(done, 8) for done in range(1, 9)]


def test_a_failed_problem_is_no_wrong_answer(run):
    evaluator = RLTestSetEvaluator(Numbers([2, 4, 6, 8, 10, 12], broken=[6]), 4, "held_out")
    metrics = run(evaluator.evaluate, echo_evens())
    assert metrics["held_out/env/all/correct"] == 1.0
    assert metrics["held_out/env/all/total_episodes"] == 5
    assert metrics["held_out/rollout_errors/groups_skipped"] == 1


def test_too_many_failed_problems_are_an_error(run):
    evaluator = RLTestSetEvaluator(Numbers(range(6), broken=range(4)), 4)
    with pytest.raises(EnvError, match=r"evaluation 'test': .* got 4 of 6:\n  4 x environment"):
        run(evaluator.evaluate, echo_evens())


def test_no_more_groups_act_at_once_than_allowed(virtual):
    class Slow(TokenCompleter):
        now = most = 0

        async def __call__(self, model_input, stop, *, max_tokens=None):
            self.now += 1
            self.most = max(self.most, self.now)
            await virtual.pause(1)
            self.now -= 1
            return TokensWithLogprobs([1], [0.0])

    slow = Slow()
    evaluator = RLTestSetEvaluator(Numbers(range(9)), 4, max_concurrent_groups=2)
    virtual(evaluator.evaluate, slow)
    assert slow.most == 2


def test_limits_hold_in_evaluations_too(virtual):
    class Hangs(TokenCompleter):
        async def __call__(self, model_input, stop, *, max_tokens=None):
            await virtual.pause(10**6)
            raise AssertionError("unreachable")

    evaluator = RLTestSetEvaluator(
        Numbers([1]), 4, limits=RolloutLimits(max_seconds=5), max_failed_group_fraction=1.0
    )
    metrics = virtual(evaluator.evaluate, Hangs())
    assert metrics == {"test/rollout_errors/groups_skipped": 1}


def test_a_bug_in_the_completer_of_a_policy_is_not_hidden(run):
    class Broken:
        def completer(self, key):
            raise ZeroDivisionError

    evaluator = RLTestSetEvaluator(Numbers([1]), 4)
    with pytest.raises(BaseExceptionGroup) as raised:
        run(evaluator.evaluate, Broken())
    assert isinstance(only_error(raised.value), ZeroDivisionError)
