"""From a ticket to a record of the journal."""

import json

import chz
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tinker_rl.completers import TokenCompleter, TokensWithLogprobs
from tinker_rl.envs import Env, EnvGroupBuilder, RLDataset, RLDatasetBuilder, StepResult
from tinker_rl.errors import SamplerError
from tinker_rl.rl import Config
from tinker_rl.rl.journal import FailureRecord
from tinker_rl.rl.outcomes import DroppedGroup, RolledOutGroup
from tinker_rl.rl.problems import NumberedGroups
from tinker_rl.rl.progress import RunProgress
from tinker_rl.rl.rolling import MOST_SAID, Rolling
from tinker_rl.rl.stopwatch import Stopwatch
from tinker_rl.rl.timeline import NO_TIMELINE, Timeline
from tinker_rl.rl.window import Ticket
from tinker_rl.types import ModelInput


class Speaks(TokenCompleter):
    async def __call__(self, model_input, stop, *, max_tokens=None):
        return TokensWithLogprobs([5, 6], [-1.0, -1.0], policy_version=0)


class Task(Env):
    def __init__(self, world):
        self.world = world

    async def initial_observation(self):
        return ModelInput.from_ints([1]), []

    async def step(self, action):
        await self.world.run.pause(self.world.num_ticks)
        if self.world.fails:
            raise OSError("gone")
        return StepResult(1.0, True, ModelInput.empty(), [])


class World(EnvGroupBuilder, RLDataset):
    """Two batches; the second has one group only."""

    def __init__(self, run, num_ticks=0, fails=False):
        self.run, self.num_ticks, self.fails = run, num_ticks, fails

    async def make_envs(self):
        return [Task(self), Task(self)]

    def get_batch(self, index):
        return [self] * (2 - index)

    def __len__(self):
        return 2


@chz.chz
class NoData(RLDatasetBuilder):
    async def __call__(self):
        raise NotImplementedError


class Reference:
    """A sampler that scores all tokens alike, or is down."""

    def __init__(self, is_down=False):
        self.is_down = is_down

    async def compute_logprobs_async(self, model_input):
        if self.is_down:
            raise SamplerError("the reference is down")
        return [None] + [-3.0] * (model_input.length - 1)


def rolling(world, reference=None, timeline=NO_TIMELINE):
    """It, what it appends, and whether each group was finished by then."""
    appended = []

    async def append(record):
        await world.run.pause(1)
        appended.append(record)

    config = Config(
        learning_rate=1e-3, dataset_builder=NoData(), model_name="tiny", max_tokens=2, log_path="."
    )
    progress = RunProgress(2, 0, Console(quiet=True))
    groups = NumberedGroups(world)
    made = Rolling(config, Speaks(), groups, reference, append, Stopwatch(), timeline, progress)
    return made, appended


def ticket(group):
    return Ticket(group=group, policy_version=0)


def test_a_finished_group_is_in_the_journal_before_anyone_learns_of_it(run):
    made, appended = rolling(World(run))
    record = run(made.roll_out, ticket(1))
    assert appended == [record]
    assert (record.group, record.policy_version) == (1, 0)
    assert isinstance(record.outcome, RolledOutGroup)
    assert record.reference_logprobs is None


def test_the_timeline_has_every_turn_of_a_group(run, tmp_path):
    path = tmp_path / "timeline.jsonl"

    async def roll_out():
        with Timeline(path) as timeline:
            made, _ = rolling(World(run, num_ticks=3), timeline=timeline)
            return await made.roll_out(ticket(1))

    record = run(roll_out)
    (span,) = [s for s in map(json.loads, path.read_text().splitlines()) if s["lane"] == "rollout"]
    assert (span["name"], span["group"], span["version"]) == ("group 1", 1, 0)
    assert (span["outcome"], span["members"], span["tokens"]) == ("rolled_out", 2, 4)
    times = record.outcome.times
    assert span["env_seconds"], span["sample_seconds"] == (times.env_seconds, times.sample_seconds)
    for member in (0, 1):
        kinds = [whom for who, whom, _, _ in span["turns"] if who == member]
        assert kinds == ["e", "s", "e"]  # the first observation, an action, a step
    in_env = sum(seconds for _, whom, _, seconds in span["turns"] if whom == "e")
    assert in_env == pytest.approx(times.env_seconds, abs=1e-5)


def test_of_a_dropped_group_the_failure_is_in_the_journal_and_the_group_is_not(run):
    made, appended = rolling(World(run, fails=True))
    record = run(made.roll_out, ticket(0))
    assert isinstance(record.outcome, DroppedGroup)
    assert appended == [FailureRecord(group=0, policy_version=0, outcome=record.outcome)]


def test_of_many_groups_that_fail_alike_the_first_few_are_said(run):
    said = []
    made, appended = rolling(World(run, fails=True))
    made._progress.say = said.append

    async def roll_out():
        for _ in range(MOST_SAID + 2):
            await made.roll_out(ticket(0))

    run(roll_out)
    assert len(appended) == MOST_SAID + 2
    assert len(said) == MOST_SAID
    assert all(line.startswith("group 0 is dropped: environment, in step") for line in said)
    assert ["more of the same" in line for line in said] == [False] * (MOST_SAID - 1) + [True]


def test_a_number_without_a_group_is_in_the_journal(run):
    made, appended = rolling(World(run))
    record = run(made.roll_out, ticket(3))
    assert record.outcome is None
    assert appended == [record]


def test_the_reference_scores_what_will_train(run):
    made, appended = rolling(World(run), Reference())
    record = run(made.roll_out, ticket(0))
    assert appended == [record]
    for member in record.reference_logprobs:
        (logprobs,) = member
        assert np.array_equal(logprobs, np.full(2, -3.0, np.float32))


def test_a_reference_that_is_down_drops_the_group(run):
    made, appended = rolling(World(run), Reference(is_down=True))
    record = run(made.roll_out, ticket(0))
    (failed,) = appended
    assert failed == FailureRecord(group=0, policy_version=0, outcome=record.outcome)
    assert record.outcome.failure.where == "kl_reference"
    assert len(record.outcome.trajectories) == 2
    assert record.outcome.num_sampled_tokens == 4
    assert record.reference_logprobs is None


@given(num_ticks=st.integers(0, 4), cancel_at=st.integers(0, 8), chance=st.random_module())
def test_cancelled_it_leaves_a_whole_record_or_none(run, num_ticks, cancel_at, chance):
    made, appended = rolling(World(run, num_ticks))

    async def go():
        return await run.cancel_after(cancel_at, made.roll_out, ticket(0))

    record = run(go)
    assert len(appended) <= 1
    assert record is None or appended == [record]
