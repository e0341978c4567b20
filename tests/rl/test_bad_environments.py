"""Bad input of every kind: what becomes of the group, what is said, and that others go on."""

import math
import time

import anyio
import anyio.lowlevel
import pytest

from tinker_rl.completers import ScriptedTokenCompleter, TokensWithLogprobs
from tinker_rl.envs import Env, EnvGroupBuilder, StepResult, StopReason
from tinker_rl.errors import RequestError
from tinker_rl.policies import EpisodeKey
from tinker_rl.rl import (
    DroppedGroup,
    InfraFailure,
    RolledOutGroup,
    RolloutLimits,
    do_group_rollout,
    do_single_rollout,
)
from tinker_rl.rl.failure_counts import describe_failure
from tinker_rl.types import ModelInput

PROMPT = ModelInput.from_ints([1])
DONE = StepResult(1.0, True, ModelInput.empty(), [0])
LIMITS = RolloutLimits(max_step_seconds=0.6, cleanup_seconds=1)


class Good(Env):
    async def initial_observation(self):
        await anyio.sleep(0.01)
        return PROMPT, [0]

    async def step(self, action, *, extra=None):
        return DONE


class Raises(Good):
    async def step(self, action, *, extra=None):
        return {}["nothing"]


class RaisesMany(Good):
    async def step(self, action, *, extra=None):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.fail)
            await anyio.sleep_forever()

    async def fail(self):
        raise OSError("in a task")


class Exits(Good):
    async def step(self, action, *, extra=None):
        raise SystemExit(2)


class Hangs(Good):
    async def step(self, action, *, extra=None):
        await anyio.sleep_forever()


class HangsAtFirst(Good):
    async def initial_observation(self):
        await anyio.sleep_forever()


class HangsInAThread(Good):
    runs_in = "thread"

    async def step(self, action, *, extra=None):
        time.sleep(2)  # noqa: ASYNC251


class EarnsNaN(Good):
    async def step(self, action, *, extra=None):
        return StepResult(math.nan, True, PROMPT, [0])


class SpeaksInTongues(Good):
    async def initial_observation(self):
        return ModelInput.from_ints([1, 999]), [0]


class AnswersText(Good):
    async def step(self, action, *, extra=None):
        return "well done"


class EndsInNothing(Good):
    async def step(self, action, *, extra=None):
        return StepResult(1.0, True, None, [0])


class ObservesText(Good):
    async def initial_observation(self):
        return "hello", [0]


class ObservesOne(Good):
    async def initial_observation(self):
        return PROMPT


class StopsNowhere(Good):
    async def initial_observation(self):
        return PROMPT, 7


class Leaks(Good):
    async def initial_observation(self):
        tasks = await anyio.create_task_group().__aenter__()
        tasks.start_soon(anyio.sleep_forever)
        return PROMPT, [0]


class LeaksAChildThatFails(Good):
    async def initial_observation(self):
        tasks = await anyio.create_task_group().__aenter__()
        tasks.start_soon(self.fail)
        return PROMPT, [0]

    async def fail(self):
        await anyio.sleep(0.02)
        raise OSError("in a task that was left")

    async def step(self, action, *, extra=None):
        await anyio.sleep(0.1)
        return DONE


class Lost(Good):
    runs_in = "cloud"


BAD = {
    Raises: ("step", "KeyError", "'nothing'"),
    RaisesMany: ("step", "OSError", "in a task"),
    Exits: ("step", "SystemExit", "2"),
    Hangs: (
        "step",
        "TimeoutError",
        "Hangs.step: expected an answer within 0.6 seconds (RolloutLimits.max_step_seconds); got",
    ),
    HangsAtFirst: ("initial_observation", "TimeoutError", "expected an answer within 0.6 seconds"),
    HangsInAThread: ("step", "TimeoutError", "HangsInAThread.step: expected an answer within 0.6"),
    EarnsNaN: (
        "step",
        "RequestError",
        "EarnsNaN.step: StepResult.reward: expected a finite number;",
    ),
    SpeaksInTongues: ("observation", "RequestError", "token 999 is not in the vocabulary"),
    AnswersText: (
        "step",
        "TypeError",
        "AnswersText.step: expected a StepResult; got str. Return StepResult(",
    ),
    EndsInNothing: (
        "step",
        "TypeError",
        "to be a ModelInput; got None. Give ModelInput.empty() where",
    ),
    ObservesText: ("initial_observation", "ShapeError", "at least one token; got str"),
    ObservesOne: (
        "initial_observation",
        "TypeError",
        "expected a pair of observation and stop condition; got ModelInput",
    ),
    StopsNowhere: (
        "initial_observation",
        "TypeError",
        "a list of token ids or of strings; got int",
    ),
    Leaks: ("step", "LeakedTaskError", "expected every task group and cancel scope to be left"),
    LeaksAChildThatFails: ("step", "LeakedTaskError", "got one that is still open"),
    Lost: ("initial_observation", "UnknownNameError", "Lost.runs_in: expected where its methods"),
}


class Builder(EnvGroupBuilder):
    def __init__(self, *envs):
        self.envs = envs
        self.num_cleanups = 0

    async def make_envs(self):
        return [env() for env in self.envs]

    async def cleanup(self):
        self.num_cleanups += 1


async def sample(model_input):
    await anyio.lowlevel.checkpoint()
    if 999 in model_input.to_ints():
        raise RequestError("token 999 is not in the vocabulary")
    return TokensWithLogprobs([5], [-1.0])


async def beside_each_other(*builders, limits=LIMITS):
    """The outcomes of groups that are rolled out at the same time, in one task group."""
    outcomes = [None] * len(builders)
    async with anyio.create_task_group() as tasks:

        async def roll_out(group):
            key = EpisodeKey(run_seed=0, group=group)
            completer = ScriptedTokenCompleter(sample)
            outcomes[group] = await do_group_rollout(builders[group], completer, key, limits)

        for group in range(len(builders)):
            tasks.start_soon(roll_out, group)
    return outcomes


@pytest.mark.parametrize("env", BAD, ids=lambda env: env.__name__)
def test_a_bad_environment_drops_its_group_and_says_why(backend, env):
    bad, good = Builder(Good, env, Good), Builder(Good, Good)

    async def main():
        return await beside_each_other(bad, good)

    dropped, rolled_out = anyio.run(main, backend=backend)
    assert isinstance(dropped, DroppedGroup)
    assert isinstance(rolled_out, RolledOutGroup)
    assert (bad.num_cleanups, good.num_cleanups) == (1, 1)
    where, error_type, error = BAD[env]
    failure = dropped.failure
    assert (failure.where, failure.error_type) == (where, error_type)
    assert error in failure.error
    assert failure.location.startswith(f"{__file__}:")
    assert dropped.member == 1
    at = f" ({failure.location})" if failure.location else ""
    assert (
        describe_failure(failure) == f"environment, in {where}{at}: {error_type}: {failure.error}"
    )


def test_a_failure_names_the_line_that_raised(backend):
    outcome = anyio.run(do_single_rollout, ScriptedTokenCompleter(sample), Raises())
    line = Raises.step.__code__.co_firstlineno + 1
    assert outcome.location == f"{__file__}:{line}"


def test_a_task_that_asyncio_was_asked_for_itself_ends_with_the_loop():
    import asyncio

    ended, tasks = [], []

    class Bare(Good):
        async def initial_observation(self):
            tasks.append(asyncio.create_task(self.wait()))
            return await super().initial_observation()

        async def wait(self):
            try:
                await anyio.sleep_forever()
            finally:
                ended.append(True)

    async def main():
        return await beside_each_other(Builder(Bare, Good), Builder(Good))

    first, second = anyio.run(main, backend="asyncio")
    assert isinstance(first, RolledOutGroup)
    assert isinstance(second, RolledOutGroup)
    assert ended == [True]


def test_waiting_for_a_thread_is_not_counted_as_a_slow_call(backend):
    class Slow(Good):
        runs_in = "thread"

        async def step(self, action, *, extra=None):
            time.sleep(0.1)  # noqa: ASYNC251
            return DONE

    limits = RolloutLimits(max_blocking_threads=1, max_step_seconds=1)

    async def main():
        return await beside_each_other(Builder(*[Slow] * 9), Builder(*[Slow] * 9), limits=limits)

    outcomes = anyio.run(main, backend=backend)
    assert all(isinstance(outcome, RolledOutGroup) for outcome in outcomes)
    assert max(outcome.times.longest_env_seconds for outcome in outcomes) > 1


class Endless(Good):
    async def step(self, action, *, extra=None):
        return StepResult(0.0, False, PROMPT, [0])


def test_an_environment_that_never_ends_is_cut_short_without_any_limit_set(run):
    outcome = run(do_single_rollout, ScriptedTokenCompleter(lambda _: [5]), Endless())
    assert outcome.limit == StopReason.MAX_TURNS
    assert len(outcome.trajectory.transitions) == RolloutLimits().max_turns == 1000


def test_an_environment_that_never_answers_is_cut_short_without_any_limit_set(virtual):
    async def main():
        began = anyio.current_time()
        outcome = await do_single_rollout(ScriptedTokenCompleter(lambda _: [5]), Hangs())
        return outcome, anyio.current_time() - began

    outcome, seconds = virtual(main)
    assert "an answer within 600.0 seconds (RolloutLimits.max_step_seconds)" in outcome.error
    assert seconds == pytest.approx(600, abs=0.1)


class BadBuilder(Builder):
    """A builder one of whose methods does something bad."""

    def __init__(self, method, deed):
        super().__init__(Good, Good)
        self.method = method
        self.deed = deed

    async def do(self, method):
        return await self.deed() if method == self.method else None

    async def make_envs(self):
        return await self.do("make_envs") or await super().make_envs()

    async def compute_group_rewards(self, trajectory_group, env_group):
        bad = await self.do("compute_group_rewards")
        return [(0.0, {})] * 2 if bad is None else bad

    async def cleanup(self):
        await super().cleanup()
        await self.do("cleanup")


async def raises():
    raise ValueError("broken")


async def leaks():
    await Leaks().initial_observation()


async def exits():
    raise SystemExit(2)


DEEDS = {
    raises: ("ValueError", "broken"),
    anyio.sleep_forever: ("TimeoutError", "expected an answer within 0.6 seconds"),
    leaks: ("LeakedTaskError", "still open"),
    exits: ("SystemExit", "2"),
}


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.__name__)
@pytest.mark.parametrize("method", ["make_envs", "compute_group_rewards", "cleanup"])
def test_a_bad_builder_drops_its_group_and_nothing_else(backend, method, deed):
    bad, good = BadBuilder(method, deed), Builder(Good, Good)

    async def main():
        return await beside_each_other(bad, good)

    outcome, other = anyio.run(main, backend=backend)
    assert isinstance(other, RolledOutGroup)
    assert bad.num_cleanups == 1
    error_type, error = DEEDS[deed]
    if method == "cleanup":
        assert isinstance(outcome, RolledOutGroup)
        late = "clean-up took longer than 1 seconds"
        assert error_type in outcome.cleanup_error
        assert (late if deed is anyio.sleep_forever else error) in outcome.cleanup_error
        return
    assert isinstance(outcome, DroppedGroup)
    assert (outcome.failure.where, outcome.failure.error_type) == (method, error_type)
    assert error in outcome.failure.error
    assert outcome.failure.location.startswith(f"{__file__}:")
    assert outcome.member is None


def test_what_a_cancelled_environment_raises_beside_its_cancellation_is_dropped(run):
    class RaisesWhenCancelled(Good):
        async def step(self, action, *, extra=None):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.fail_at_the_end)
                await anyio.sleep_forever()

        async def fail_at_the_end(self):
            try:
                await anyio.sleep_forever()
            finally:
                raise OSError("while cancelled")

    async def main():
        return await run.cancel_after(
            5, do_single_rollout, ScriptedTokenCompleter(sample), RaisesWhenCancelled()
        )

    assert run(main) is None


def test_a_sampler_that_cancels_itself_is_no_fault_of_the_environment():
    import asyncio

    async def cancelled(model_input):
        raise asyncio.CancelledError

    async def main():
        return await do_single_rollout(ScriptedTokenCompleter(cancelled), Good())

    outcome = anyio.run(main, backend="asyncio")
    assert isinstance(outcome, InfraFailure)
    told = (outcome.where, outcome.error_type, outcome.error)
    assert told == ("sample", "CancelledError", "the call was cancelled from inside")
