"""The pipeline on random schedules, in virtual time: order, age, slots, cancellation, errors."""

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.rl.pipeline import run_pipeline
from tinker_rl.rl.window import Commit, Window

schedules = st.fixed_dictionaries(
    {
        "num_minibatches": st.integers(1, 2),
        "groups_per_minibatch": st.integers(1, 3),
        "bound": st.integers(0, 2),
        "num_batches": st.integers(0, 4),
        "first_batch": st.integers(0, 2),
        "workers": st.integers(1, 12),
        "straggler": st.sampled_from(["wait", "mask"]),
        "seconds": st.lists(st.integers(0, 9), min_size=24, max_size=24),
        "learn_seconds": st.integers(0, 5),
        "mute": st.sets(st.integers(1, 4)),
        "finished": st.sets(st.integers(0, 8)),
    }
)


class Recorder:
    """Rolls groups out and learns from them; keeps what happened."""

    def __init__(self, run, schedule, fail_at=None):
        self.run = run
        self.seconds = schedule["seconds"]
        self.learn_seconds = schedule["learn_seconds"]
        self.workers = schedule["workers"]
        self.bound = schedule["bound"]
        self.size = schedule["num_minibatches"] * schedule["groups_per_minibatch"]
        self.first = min(schedule["first_batch"], schedule["num_batches"])
        # What an earlier start may have finished: groups that the first version lets start.
        later = range(self.first * self.size, schedule["num_batches"] * self.size)
        later = later[: (self.bound + 1) * self.size]
        self.finished = {later[place] for place in schedule["finished"] if place < len(later)}
        self.fail_at = None if fail_at in self.finished else fail_at
        self.window = Window(
            self.size,
            schedule["bound"],
            schedule["num_batches"],
            first_batch=self.first,
            num_minibatches=schedule["num_minibatches"],
            straggler=schedule["straggler"],
            finished={group: f"group {group}" for group in self.finished},
        )
        self.version = self.acting = self.first
        self.mute = schedule["mute"]
        self.num_rolling = self.most_rolling = 0
        self.versions = {}
        self.trained = []
        self.ages = []
        self.is_learning = False

    async def roll_out(self, ticket):
        # A version may be published between a group's admission and its first step.
        assert ticket.policy_version <= self.window.acting_version <= self.acting
        assert ticket.policy_version == self.first or ticket.policy_version not in self.mute
        admissible = range(ticket.policy_version + 1, ticket.group // self.size - self.bound + 1)
        assert set(admissible) <= self.mute
        self.versions[ticket.group] = ticket.policy_version
        self.num_rolling += 1
        self.most_rolling = max(self.most_rolling, self.num_rolling)
        try:
            await self.run.pause(self.seconds[ticket.group])
        finally:
            self.num_rolling -= 1
        if ticket.group == self.fail_at:
            raise KeyError(ticket.group)
        return f"group {ticket.group}"

    async def learn(self, minibatch):
        assert not self.is_learning
        self.is_learning = True
        await self.run.pause(self.learn_seconds)
        self.is_learning = False
        assert minibatch.results == tuple(f"group {group}" for group in minibatch.groups)
        self.trained.extend(minibatch.groups)
        sampled = set(minibatch.groups) - self.finished
        self.ages.extend(minibatch.batch - self.versions[group] for group in sampled)
        if not minibatch.is_last:
            return None
        self.version += 1
        if self.version not in self.mute:
            self.acting = self.version
        return Commit(version=self.version, acting_version=self.acting)

    async def go(self):
        await run_pipeline(self.window, self.roll_out, self.learn, self.workers)


@given(schedule=schedules, interleaving=st.random_module())
def test_every_group_is_learned_from_once_and_in_order(run, schedule, interleaving):
    recorder = Recorder(run, schedule)
    run(recorder.go)
    first, last = recorder.first * recorder.size, schedule["num_batches"] * recorder.size
    assert sorted(recorder.trained) == list(range(first, last))
    assert recorder.version == schedule["num_batches"]
    assert recorder.window.num_slots_taken == recorder.window.num_in_flight == 0
    assert recorder.most_rolling <= recorder.workers
    if schedule["straggler"] == "wait":
        assert recorder.trained == list(range(first, last))
        oldest = schedule["bound"] + len(schedule["mute"])
        assert all(0 <= age <= oldest for age in recorder.ages)


@given(schedule=schedules, interleaving=st.random_module(), cancel_at=st.integers(0, 60))
def test_cancelled_anywhere_it_leaves_no_rollout_behind(run, schedule, interleaving, cancel_at):
    recorder = Recorder(run, schedule)

    async def go():
        await run.cancel_after(cancel_at, recorder.go)
        assert recorder.num_rolling == 0

    run(go)
    assert len(set(recorder.trained)) == len(recorder.trained)


@given(schedule=schedules, interleaving=st.random_module(), fail_at=st.integers(0, 23))
def test_what_a_rollout_raises_ends_the_pipeline(run, schedule, interleaving, fail_at):
    recorder = Recorder(run, schedule, fail_at)
    first, last = recorder.first * recorder.size, schedule["num_batches"] * recorder.size
    if first <= fail_at < last and fail_at not in recorder.finished:
        with pytest.raises(BaseExceptionGroup) as raised:
            run(recorder.go)
        assert raised.group_contains(KeyError, match=str(fail_at))
        assert fail_at not in recorder.trained
        assert recorder.num_rolling == 0
    else:
        run(recorder.go)


@given(schedule=schedules, interleaving=st.random_module(), fail_at=st.integers(0, 3))
def test_what_learning_raises_is_the_only_error(run, schedule, interleaving, fail_at):
    """Whoever waits to hand in a group at that time is cancelled."""
    recorder = Recorder(run, schedule)
    learn = recorder.learn

    async def fail(minibatch):
        if minibatch.batch == recorder.first + fail_at:
            raise KeyError(fail_at)
        return await learn(minibatch)

    recorder.learn = fail
    if recorder.first + fail_at < schedule["num_batches"]:
        with pytest.raises(BaseExceptionGroup) as raised:
            run(recorder.go)
        matching, others = raised.value.split(KeyError)
        assert matching is not None
        assert others is None
        assert recorder.num_rolling == 0
    else:
        run(recorder.go)


def schedule_of(**options):
    return {
        "num_minibatches": 1,
        "groups_per_minibatch": 2,
        "num_batches": 3,
        "first_batch": 0,
        "straggler": "wait",
        "mute": set(),
        "finished": set(),
        **options,
    }


async def seconds(run, schedule):
    """How long all rollouts took, and the whole pipeline."""
    recorder = Recorder(run, schedule)
    rolled_out_at = []
    roll_out = recorder.roll_out

    async def timed(ticket):
        result = await roll_out(ticket)
        rolled_out_at.append(anyio.current_time())
        return result

    recorder.roll_out = timed
    start = anyio.current_time()
    await recorder.go()
    return max(rolled_out_at) - start, anyio.current_time() - start


def test_rollouts_go_on_while_the_learner_works(virtual):
    options = {"workers": 4, "seconds": [5] * 6, "learn_seconds": 5}
    # 5 to sample the first batches; then each of three steps, the last two beside sampling.
    assert virtual(seconds, virtual, schedule_of(bound=1, **options)) == (15, 20)
    assert virtual(seconds, virtual, schedule_of(bound=0, **options)) == (25, 30)


def test_groups_that_wait_for_a_busy_learner_keep_no_other_from_starting(virtual):
    schedule = schedule_of(bound=2, workers=2, seconds=[1] * 6, learn_seconds=10)
    assert virtual(seconds, virtual, schedule) == (3, 31)
