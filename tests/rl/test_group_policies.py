"""Promise 5: whatever environments do, under every group policy nothing broken is a reward."""

import anyio
import anyio.lowlevel
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.completers import TokenCompleter, TokensWithLogprobs
from tinker_rl.envs import Env, EnvGroupBuilder, StepResult, current_rng
from tinker_rl.errors import ConfigError, EngineError
from tinker_rl.policies import EpisodeKey
from tinker_rl.rl import FailFast, MinViable, Retry, RolledOutGroup, RolloutLimits, do_group_rollout
from tinker_rl.rl.log_dir import dump_config
from tinker_rl.rl.outcomes import DroppedGroup
from tinker_rl.rl.rollouts import GROUP_ITSELF, GROUP_REWARDS
from tinker_rl.types import ModelInput

KEY = EpisodeKey(run_seed=3, group=4)
LIMITS = RolloutLimits(max_step_seconds=50.5, cleanup_seconds=5)
PROMPT = ModelInput.from_ints([1])
MAX_ATTEMPTS = 4
FAULTS = ["raises", "hangs", "cancels", "leaks", "nan", "nonsense", "sampler"]


class Plan(msgspec.Struct):
    """One attempt at an episode."""

    num_turns: int
    ticks: int
    """How long each call takes."""
    fault: str | None
    at: int
    """Call at which the fault happens: 0 is initial_observation, then the steps."""

    @property
    def fails(self):
        return self.fault is not None and (self.at <= self.num_turns)

    def fault_of(self, call):
        return self.fault if call == self.at else None


def token(member, attempt, turn):
    return 1000 * member + 100 * attempt + turn


async def misbehave(fault):
    if fault == "raises":
        raise ValueError("broken")
    if fault == "hangs":
        await anyio.sleep_forever()
    if fault == "cancels":
        with anyio.CancelScope() as scope:
            scope.cancel()
            try:
                await anyio.lowlevel.checkpoint()
            except BaseException as cancelled:
                error = cancelled
        raise error
    if fault == "leaks":
        tasks = await anyio.create_task_group().__aenter__()
        tasks.start_soon(anyio.sleep_forever)


class Planned(Env):
    def __init__(self, group, member):
        self.group = group
        self.member = member
        self.call = 0
        self.was_played = False

    async def initial_observation(self):
        assert not self.was_played, "an environment is used once"
        self.was_played = True
        self.attempt = self.group.attempts[self.member]
        self.plan = self.group.plans[self.member][self.attempt]
        self.group.drawn[self.member, self.attempt] = []
        return await self.do((PROMPT, [0]))

    async def step(self, action, *, extra=None):
        assert action == [token(self.member, self.attempt, self.call)]
        reward = float(action[0])
        done = self.call + 1 == self.plan.num_turns
        self.call += 1
        return await self.do(StepResult(reward, done, PROMPT, [0]))

    async def do(self, value):
        self.group.drawn[self.member, self.attempt].append(current_rng().random())
        await anyio.sleep(self.plan.ticks)
        fault = self.plan.fault_of(self.call)
        await misbehave(fault)
        if fault == "nan":
            return StepResult(float("nan"), True, PROMPT, [0])
        return 7 if fault == "nonsense" else value


class Samples(TokenCompleter):
    def __init__(self, group, key):
        self.group = group
        self.key = key
        self.turn = 0

    async def __call__(self, model_input, stop, *, max_tokens=None):
        plan = self.group.plans[self.key.member][self.key.attempt]
        await anyio.sleep(plan.ticks)
        if plan.fault_of(self.turn + 1) == "sampler":
            raise EngineError("down")
        self.turn += 1
        self.group.num_sampled += 1
        return TokensWithLogprobs(
            [token(self.key.member, self.key.attempt, self.turn - 1)], [-1.0], policy_version=0
        )


class Group(EnvGroupBuilder):
    """A builder and a policy: both do as planned, and note what is asked of them."""

    def __init__(self, plans, linked=False, make_failures=0, reward_failures=0):
        self.plans = plans
        self.linked = linked
        self.make_failures = make_failures
        self.reward_failures = reward_failures
        self.attempts = {}
        self.keys = []
        self.drawn = {}
        self.drawn_for_group = {GROUP_ITSELF: [], GROUP_REWARDS: []}
        self.num_sampled = self.num_cleanups = 0
        self.rewarded = None

    def completer(self, key):
        self.keys.append(key)
        self.attempts[key.member] = key.attempt
        return Samples(self, key)

    async def make_envs(self):
        self.drawn_for_group[GROUP_ITSELF].append(current_rng().random())
        if self.make_failures > 0:
            self.make_failures -= 1
            raise OSError("cannot make it")
        return [Planned(self, member) for member in range(len(self.plans))]

    async def compute_group_rewards(self, trajectory_group, env_group):
        self.drawn_for_group[GROUP_REWARDS].append(current_rng().random())
        if self.reward_failures > 0:
            self.reward_failures -= 1
            raise OSError("no judge")
        self.rewarded = [(env.member, env.attempt) for env in env_group]
        return [(0.5, {"member": env.member}) for env in env_group]

    async def cleanup(self):
        self.num_cleanups += 1


def fails(plan):
    if plan.fault in ("nan", "sampler", "nonsense") and plan.at == 0:
        return plan.fault != "sampler"
    return plan.fails


def expected_attempts(group, policy):
    """The attempt at which each member that trains was played, or None for a dropped group."""
    size, n = len(group.plans), policy.num_retries
    make, rewards = group.make_failures, group.reward_failures
    failed = [[fails(plan) for plan in plans] for plans in group.plans]
    if group.linked:
        for attempt in range(n + 1):
            if make > 0:
                make -= 1
            elif not any(failed[member][attempt] for member in range(size)):
                if rewards == 0:
                    return dict.fromkeys(range(size), attempt)
                rewards -= 1
        return None
    if make > n or rewards > n:
        return None
    done = {}
    for member in range(size):
        attempts = [attempt for attempt in range(n + 1) if not failed[member][attempt]]
        if attempts:
            done[member] = attempts[0]
    fewest = min(policy.n, size) if isinstance(policy, MinViable) else size
    return done if len(done) >= fewest else None


plans = st.builds(
    Plan,
    num_turns=st.integers(1, 3),
    ticks=st.integers(0, 3),
    fault=st.sampled_from([None] * len(FAULTS) + FAULTS),
    at=st.integers(0, 3),
)
members = st.lists(
    st.lists(plans, min_size=MAX_ATTEMPTS, max_size=MAX_ATTEMPTS), min_size=1, max_size=4
)
policies = st.one_of(
    st.just(FailFast()),
    st.builds(lambda n: Retry(n=n), st.integers(1, MAX_ATTEMPTS - 1)),
    st.builds(lambda n: MinViable(n=n), st.integers(2, 3)),
)
groups = st.builds(
    Group,
    members,
    linked=st.booleans(),
    make_failures=st.sampled_from([0, 0, 0, 1, 2]),
    reward_failures=st.sampled_from([0, 0, 0, 1, 2]),
)


def check_random_numbers(group):
    """What was drawn depends on the run, the group, the member and the attempt alone."""
    for (member, attempt), drawn in group.drawn.items():
        rng = EpisodeKey(run_seed=3, group=4, member=member, attempt=attempt).env_rng()
        assert drawn == [rng.random() for _ in drawn]
    for member, drawn in group.drawn_for_group.items():
        known = [
            EpisodeKey(run_seed=3, group=4, member=member, attempt=attempt).env_rng().random()
            for attempt in range(MAX_ATTEMPTS)
        ]
        assert set(drawn) <= set(known)
    assert len(set(group.keys)) == len(group.keys)
    assert all(
        key == msgspec.structs.replace(KEY, member=key.member, attempt=key.attempt)
        for key in group.keys
    )


@given(
    schedule=st.random_module(),
    group=groups,
    policy=policies,
    cancel_at=st.none() | st.integers(0, 120),
)
def test_nothing_that_failed_is_ever_trained_on(virtual, schedule, group, policy, cancel_at):
    expected = expected_attempts(group, policy)

    async def roll_out():
        rollout = (group, group, KEY, LIMITS, policy)
        began = anyio.current_time()
        if cancel_at is None:
            outcome = await do_group_rollout(*rollout)
        else:
            outcome = await virtual.cancel_after(cancel_at, do_group_rollout, *rollout)
        return outcome, anyio.current_time() - began

    outcome, seconds = virtual(roll_out)
    assert group.num_cleanups == 1
    check_random_numbers(group)
    if outcome is None:
        assert cancel_at is not None
        return
    assert outcome.num_sampled_tokens == group.num_sampled
    assert outcome.times.seconds == seconds
    assert outcome.times.longest_env_seconds <= min(50.5, seconds)
    assert isinstance(outcome, RolledOutGroup) == (expected is not None)
    if isinstance(outcome, DroppedGroup):
        assert outcome.failure in [attempt.failure for attempt in outcome.failures]
        return
    check_group(group, expected, outcome)


def check_group(group, expected, outcome):
    size = len(group.plans)
    places = tuple(expected)
    assert outcome.members == (None if len(places) == size else places)
    assert group.rewarded == list(expected.items())
    total = [
        sum(token(member, attempt, turn) for turn in range(group.plans[member][attempt].num_turns))
        for member, attempt in expected.items()
    ]
    assert outcome.group.get_total_rewards() == [reward + 0.5 for reward in total]
    for (member, attempt), trajectory in zip(
        expected.items(), outcome.group.trajectories_G, strict=True
    ):
        sampled = [transition.ac.tokens for transition in trajectory.transitions]
        assert sampled == [
            [token(member, attempt, turn)] for turn in range(group.plans[member][attempt].num_turns)
        ]
    for failed in outcome.failures:
        if failed.member is not None and failed.failure.where != "make_envs":
            assert fails(group.plans[failed.member][failed.attempt])
            assert expected.get(failed.member) != failed.attempt


WELL = Plan(num_turns=2, ticks=1, fault=None, at=0)
BAD = Plan(num_turns=2, ticks=1, fault="raises", at=1)


def roll_out(run, group, policy):
    return run(do_group_rollout, group, group, KEY, LIMITS, policy)


def test_a_failed_episode_is_played_again_and_the_others_are_kept(virtual):
    group = Group([[WELL] * 4, [BAD, BAD, WELL, WELL]])
    outcome = roll_out(virtual, group, Retry(n=2))
    assert isinstance(outcome, RolledOutGroup)
    assert sorted((key.member, key.attempt) for key in group.keys) == [
        (0, 0),
        (1, 0),
        (1, 1),
        (1, 2),
    ]
    assert [(f.member, f.attempt, f.failure.error) for f in outcome.failures] == [
        (1, 0, "broken"),
        (1, 1, "broken"),
    ]
    assert outcome.num_sampled_tokens == 6
    assert outcome.members is None


def test_what_is_made_again_is_the_same_task(virtual):
    group = Group([[WELL] * 4, [BAD, WELL, WELL, WELL]], make_failures=1)
    assert isinstance(roll_out(virtual, group, Retry(n=2)), RolledOutGroup)
    failed, made, made_again = group.drawn_for_group[GROUP_ITSELF]
    assert made == made_again != failed


def test_a_group_that_is_made_again_has_as_many_members(virtual):
    class Shrinks(Group):
        async def make_envs(self):
            envs = await super().make_envs()
            self.plans = self.plans[:1] if self.keys else self.plans
            return envs[: 1 if self.keys else None]

    outcome = roll_out(virtual, Shrinks([[WELL] * 4, [BAD] * 4]), Retry(n=1))
    assert isinstance(outcome, DroppedGroup)
    assert outcome.failure.where == "make_envs"
    assert outcome.failure.error.endswith("expected 2 environments, as at first; got 1")


def test_linked_episodes_are_played_again_together(virtual):
    group = Group([[WELL] * 4, [BAD, WELL, WELL, WELL]], linked=True)
    outcome = roll_out(virtual, group, Retry(n=1))
    assert isinstance(outcome, RolledOutGroup)
    assert group.rewarded == [(0, 1), (1, 1)]


def test_failed_episodes_are_left_out_and_the_rest_is_a_group(virtual):
    group = Group([[BAD] * 4, [WELL] * 4, [WELL] * 4])
    outcome = roll_out(virtual, group, MinViable(n=2))
    assert isinstance(outcome, RolledOutGroup)
    assert outcome.members == (1, 2)
    assert outcome.group.metrics_G == [{"member": 1}, {"member": 2}]
    (failed,) = outcome.failures
    assert (failed.member, failed.failure.error) == (0, "broken")


def test_a_group_that_cannot_be_rewarded_keeps_who_was_not_left_out(virtual):
    class Unfair(Group):
        async def compute_group_rewards(self, trajectory_group, env_group):
            raise OSError("no judge")

    outcome = roll_out(virtual, Unfair([[BAD] * 4, [WELL] * 4, [WELL] * 4]), MinViable(n=2))
    assert isinstance(outcome, DroppedGroup)
    assert (outcome.member, outcome.members, len(outcome.trajectories)) == (None, (1, 2), 2)


def test_linked_episodes_are_not_left_out(virtual):
    group = Group([[BAD] * 4, [WELL] * 4, [WELL] * 4], linked=True)
    assert isinstance(roll_out(virtual, group, MinViable(n=2)), DroppedGroup)


def test_times_are_where_they_were_spent(virtual):
    slow = Plan(num_turns=2, ticks=3, fault=None, at=0)
    outcome = roll_out(virtual, Group([[WELL] * 4, [slow] * 4]), FailFast())
    times = outcome.times
    assert (times.seconds, times.longest_env_seconds) == (15.0, 3.0)
    assert (times.env_seconds, times.sample_seconds) == (12.0, 8.0)


def test_on_both_backends_a_leak_is_played_again(run):
    well = Plan(num_turns=1, ticks=0, fault=None, at=0)
    leaks = Plan(num_turns=1, ticks=0, fault="leaks", at=1)
    raises = Plan(num_turns=1, ticks=0, fault="raises", at=1)
    group = Group([[leaks, raises, well, well], [well] * 4])
    outcome = roll_out(run, group, Retry(n=2))
    assert isinstance(outcome, RolledOutGroup)
    types = [failed.failure.error_type for failed in outcome.failures]
    assert types == ["LeakedTaskError", "ValueError"]
    assert group.num_cleanups == 1


@pytest.mark.parametrize(("kind", "bad"), [(Retry, 0), (Retry, -1), (MinViable, 1), (MinViable, 0)])
def test_a_policy_that_does_nothing_is_refused(kind, bad):
    with pytest.raises(ConfigError, match=rf"{kind.__name__}\.n: expected"):
        kind(n=bad)


def test_policies_can_be_written_down():
    assert dump_config(Retry(n=2)) == {"type": "Retry", "n": 2}
    assert dump_config(MinViable(n=3)) == {"type": "MinViable", "n": 3}
    assert dump_config(FailFast()) == {"type": "FailFast"}
