"""Groups: rewarded together or dropped together, and cleaned up exactly once, whatever happens."""

import math

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.completers import TokenCompleter, TokensWithLogprobs
from tinker_rl.envs import Env, EnvGroupBuilder, StepResult, StopReason
from tinker_rl.envs.randomness import current_rng
from tinker_rl.errors import EngineError
from tinker_rl.policies import EpisodeKey
from tinker_rl.rl.limits import RolloutLimits
from tinker_rl.rl.outcomes import DroppedGroup, InfraFailure, RolledOutGroup
from tinker_rl.rl.rollouts import do_group_rollout
from tinker_rl.types import ModelInput

PROMPT = ModelInput.from_ints([1])
KEY = EpisodeKey(run_seed=0, group=4)
FOREVER = 10**6


class Speaks(TokenCompleter):
    """Samples two tokens, after a while."""

    def __init__(self, run, num_ticks=0, error=None):
        self.run = run
        self.num_ticks = num_ticks
        self.error = error

    async def __call__(self, model_input, stop, *, max_tokens=None):
        await self.run.pause(self.num_ticks)
        if self.error is not None:
            raise self.error
        return TokensWithLogprobs([5, 6], [-1.0, -1.0], policy_version=0)


class Member(Env):
    def __init__(self, builder, member):
        self.builder = builder
        self.member = member

    async def initial_observation(self):
        self.builder.num_begun += 1
        return PROMPT, [0]

    async def step(self, action, *, extra=None):
        await self.builder.do(f"step {self.member}")
        self.builder.num_done += 1
        return StepResult(float(self.member), True, PROMPT, [0])


class Builder(EnvGroupBuilder):
    """Counts what happens to it. `plan` says of a call how many ticks it takes, or what it raises;
    None is for ever."""

    def __init__(self, run, size=2, plan=None):
        self.run = run
        self.size = size
        self.plan = plan or {}
        self.num_begun = self.num_done = self.num_cleanups = self.num_cleaned = 0
        self.in_use = False

    async def do(self, call):
        plan = self.plan.get(call, 0)
        if isinstance(plan, BaseException):
            raise plan
        await self.run.pause(FOREVER if plan is None else plan)

    async def make_envs(self):
        self.in_use = True
        await self.do("make_envs")
        return [Member(self, member) for member in range(self.size)]

    async def compute_group_rewards(self, trajectory_group, env_group):
        await self.do("compute_group_rewards")
        return [(10.0, {"member": env.member}) for env in env_group]

    async def cleanup(self):
        self.num_cleanups += 1
        await self.do("cleanup")
        self.in_use = False
        self.num_cleaned += 1

    def logging_tags(self):
        return ["counting"]


def test_a_group_is_rolled_out_rewarded_and_cleaned_up(run):
    builder = Builder(run, size=3)
    outcome = run(do_group_rollout, builder, Speaks(run), KEY)
    assert isinstance(outcome, RolledOutGroup)
    assert outcome.group.get_total_rewards() == [10.0, 11.0, 12.0]
    assert outcome.group.metrics_G == [{"member": 0}, {"member": 1}, {"member": 2}]
    assert outcome.tags == ("counting",)
    assert outcome.num_sampled_tokens == 6
    assert (builder.num_cleanups, builder.num_cleaned) == (1, 1)


def test_members_act_at_the_same_time(virtual):
    async def seconds():
        start = anyio.current_time()
        builder = Builder(virtual, size=8, plan={f"step {i}": 3 for i in range(8)})
        await do_group_rollout(builder, Speaks(virtual, num_ticks=4), KEY)
        return anyio.current_time() - start

    assert virtual(seconds) == 7


def test_every_member_has_a_key_of_its_own(run):
    keys = []

    class Policy:
        def completer(self, key):
            keys.append(key)
            return Speaks(run)

    run(do_group_rollout, Builder(run, size=3), Policy(), KEY)
    expected = [EpisodeKey(run_seed=0, group=4, member=member) for member in range(3)]
    assert sorted(keys, key=lambda key: key.member) == expected


calls = st.sampled_from(
    ["make_envs", "step 0", "step 1", "step 2", "compute_group_rewards", "cleanup"]
)
faults = st.one_of(
    st.integers(0, 6),
    st.none(),
    st.builds(ValueError, st.just("broken")),
)
plans = st.dictionaries(calls, faults, max_size=4)


@given(
    schedule=st.random_module(),
    plan=plans,
    sampler_ticks=st.integers(0, 4),
    sampler_breaks=st.booleans(),
    cancel_at=st.none() | st.integers(0, 25),
)
def test_cleanup_runs_exactly_once_and_nothing_broken_is_a_reward(
    virtual, schedule, plan, sampler_ticks, sampler_breaks, cancel_at
):
    builder = Builder(virtual, size=3, plan=plan)
    error = EngineError("down") if sampler_breaks else None
    limits = RolloutLimits(max_seconds=9.5, cleanup_seconds=3.5)

    async def roll_out():
        rollout = (builder, Speaks(virtual, sampler_ticks, error), KEY, limits)
        if cancel_at is None:
            return await do_group_rollout(*rollout)
        return await virtual.cancel_after(cancel_at, do_group_rollout, *rollout)

    outcome = virtual(roll_out)
    assert builder.num_cleanups == 1
    cleanup = plan.get("cleanup", 0)
    cleans = isinstance(cleanup, int) and cleanup <= 3
    assert builder.num_cleaned == cleans
    assert builder.in_use == (not cleans)
    if outcome is None:
        assert cancel_at is not None
        return
    assert (outcome.cleanup_error is None) == cleans
    broken = [
        call
        for call, fault in plan.items()
        if call != "cleanup" and (fault is None or isinstance(fault, ValueError))
    ]
    if isinstance(outcome, RolledOutGroup):
        assert not sampler_breaks
        assert not broken
        assert outcome.group.get_total_rewards() == [10.0, 11.0, 12.0]
        assert all(t.terminated for t in outcome.group.trajectories_G)
    else:
        assert isinstance(outcome, DroppedGroup)
        slow = sampler_ticks + max([f for f in plan.values() if isinstance(f, int)], default=0)
        assert broken or sampler_breaks or slow > 9


@given(
    schedule=st.random_module(),
    fault=st.sampled_from(["step 0", "step 1", "make_envs", "compute_group_rewards", "sampler"]),
    cancel_at=st.none() | st.integers(0, 40),
    steps=st.lists(st.integers(0, 5), min_size=2, max_size=2),
)
def test_cleanup_runs_exactly_once_on_both_backends(run, schedule, fault, cancel_at, steps):
    plan = {"step 0": steps[0], "step 1": steps[1], fault: ValueError("broken"), "cleanup": 2}
    builder = Builder(run, plan=plan)
    sampler = Speaks(run, 1, EngineError("down") if fault == "sampler" else None)

    async def roll_out():
        await anyio.lowlevel.checkpoint()
        if cancel_at is None:
            return await do_group_rollout(builder, sampler, KEY)
        return await run.cancel_after(cancel_at, do_group_rollout, builder, sampler, KEY)

    outcome = run(roll_out)
    assert (builder.num_cleanups, builder.num_cleaned, builder.in_use) == (1, 1, False)
    if cancel_at is None:
        assert isinstance(outcome, DroppedGroup)


def test_the_others_are_cancelled_when_one_fails(virtual):
    builder = Builder(virtual, plan={"step 0": None, "step 1": ValueError("broken")})
    outcome = virtual(do_group_rollout, builder, Speaks(virtual), KEY)
    assert isinstance(outcome, DroppedGroup)
    failure = outcome.failure
    assert (failure.where, failure.error_type, failure.error) == ("step", "ValueError", "broken")
    assert outcome.member == 1
    assert outcome.tags == tuple(builder.logging_tags())
    assert outcome.num_sampled_tokens in (2, 4)
    assert builder.num_done == 0


def test_random_numbers_depend_on_the_episode_and_not_on_the_schedule(run):
    class Draws(Builder):
        async def make_envs(self):
            self.drawn = [current_rng().random()]
            return await super().make_envs()

        async def do(self, call):
            if call.startswith("step"):
                await self.run.pause(self.order[int(call[-1])])
                self.drawn.append((call, current_rng().random()))

    drawn = []
    for order in ([0, 3], [3, 0]):
        builder = Draws(run)
        builder.order = order
        run(do_group_rollout, builder, Speaks(run), KEY)
        first, *members = builder.drawn
        drawn.append((first, dict(members)))
    assert drawn[0] == drawn[1]
    first, members = drawn[0]
    assert len({first, *members.values()}) == 3


def test_a_broken_sampler_drops_the_group_as_infrastructure(run):
    outcome = run(do_group_rollout, Builder(run), Speaks(run, error=EngineError("down")), KEY)
    assert isinstance(outcome, DroppedGroup)
    failure = outcome.failure
    assert failure == InfraFailure("sample", "EngineError", "down", failure.unfinished)


def test_a_group_that_makes_no_environments_is_dropped(run):
    outcome = run(do_group_rollout, Builder(run, size=0), Speaks(run), KEY)
    assert isinstance(outcome, DroppedGroup)
    assert outcome.failure.where == "make_envs"
    assert outcome.member is None


@pytest.mark.parametrize(
    "bad", [[], [(1.0, {})], [(math.nan, {})] * 2, [1.0, 2.0], None, [("much", {})] * 2]
)
def test_group_rewards_that_do_not_fit_the_group_drop_it(run, bad):
    class Broken(Builder):
        async def compute_group_rewards(self, trajectory_group, env_group):
            return bad

    builder = Broken(run)
    outcome = run(do_group_rollout, builder, Speaks(run), KEY)
    assert isinstance(outcome, DroppedGroup)
    assert outcome.failure.where == "compute_group_rewards"
    assert builder.num_cleanups == 1
    plain = run(do_group_rollout, Builder(run), Speaks(run), KEY)
    assert list(outcome.trajectories) == plain.group.trajectories_G
    assert outcome.members is None


def test_where_a_member_broke_the_others_are_not_kept(run):
    outcome = run(do_group_rollout, Builder(run, plan={"step 1": OSError()}), Speaks(run), KEY)
    assert (outcome.member, outcome.trajectories, outcome.members) == (1, (), None)


def test_a_cleanup_that_fails_costs_no_episode(run, caplog):
    builder = Builder(run, plan={"cleanup": OSError("still there")})
    outcome = run(do_group_rollout, builder, Speaks(run), KEY)
    assert isinstance(outcome, RolledOutGroup)
    assert outcome.cleanup_error == "OSError: still there"
    assert "clean-up of a group failed" in caplog.text


def test_truncated_members_train(run):
    limits = RolloutLimits(max_turns=1)

    class Endless(Member):
        async def step(self, action, *, extra=None):
            return StepResult(1.0, False, PROMPT, [0])

    class EndlessBuilder(Builder):
        async def make_envs(self):
            return [Endless(self, member) for member in range(2)]

    outcome = run(do_group_rollout, EndlessBuilder(run), Speaks(run), KEY, limits)
    assert isinstance(outcome, RolledOutGroup)
    reasons = [trajectory.stop_reason for trajectory in outcome.group.trajectories_G]
    assert reasons == [StopReason.MAX_TURNS] * 2


def test_a_cancellation_from_inside_an_environment_is_its_failure():
    """On asyncio anything may cancel a task; it must not pass for an episode."""
    import asyncio

    class Run:
        async def pause(self, num_ticks):
            await anyio.lowlevel.checkpoint()

    class Cancelled(Member):
        async def step(self, action, *, extra=None):
            raise asyncio.CancelledError

    class CancelledBuilder(Builder):
        async def make_envs(self):
            return [Cancelled(self, 0), Member(self, 1)]

    builder = CancelledBuilder(Run())
    outcome = anyio.run(do_group_rollout, builder, Speaks(Run()), KEY, backend="asyncio")
    assert isinstance(outcome, DroppedGroup)
    assert outcome.failure.error_type == "CancelledError"
    assert builder.num_cleanups == 1
