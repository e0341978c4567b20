"""Whole runs of `tiny`, and a world that decides how long its environments take."""

import json
import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import anyio
import chz
import pytest

from tinker_rl.envs import Env, EnvGroupBuilder, RLDataset, RLDatasetBuilder, StepResult
from tinker_rl.envs.randomness import current_rng
from tinker_rl.rl import AsyncConfig, Config, StreamMinibatchConfig, main
from tinker_rl.rl.journal import JOURNAL_FILE, Journal, encode, without_times
from tinker_rl.rl.log_dir import dump_config
from tinker_rl.types import ModelInput

HELD_OUT = 1000
"""Number of the first held-out group."""


class World:
    """What happens around the environments, and is no part of a run's options."""

    def __init__(self):
        self.reset()

    def reset(self):
        """Forget all that a test asked for or learned."""
        self.__dict__.clear()
        self.made = Counter()
        """How often each group's environments were made."""
        self.stop = {}
        """Stop condition by group."""
        self.turns = {}
        """Turns of a group's episodes where they are not two."""
        self._started = {}
        self._steps_left, self._then = None, None

    async def before_step(self, group, member, turn):
        """Awaited in every step of an environment."""

    def on_make(self, group):
        """Called when a group begins."""

    def after_steps(self, num_steps, then):
        """Have a function called when environments have stepped so often from now on."""
        self._steps_left, self._then = num_steps, then

    def count_step(self):
        if self._steps_left is not None:
            self._steps_left -= 1
            if self._steps_left == 0:
                self._then()

    async def until_started(self, group):
        """Until a training group has begun, in whichever run."""
        if not self.made[group]:
            await self._started.setdefault(group, anyio.Event()).wait()

    def make(self, group):
        self.made[group] += 1
        if group in self._started:
            self._started.pop(group).set()
        self.on_make(group)

    def sleep_at_random(self, seed, most=0.03):
        """From now on each step takes up to so many seconds."""
        rng = random.Random(seed)
        self.before_step = lambda *_: anyio.sleep(rng.uniform(0, most))


world = World()


class EvenTokens(Env):
    """A growing conversation; earns the share of even tokens."""

    def __init__(self, group, member):
        self.group, self.member, self.turn = group, member, 0
        self.turns = world.turns.get(group, 2)
        self.history = [5 + group % 7, 6, 7]

    async def initial_observation(self):
        self.history.append(10 + current_rng().randrange(5))
        return ModelInput.from_ints(self.history), world.stop.get(self.group, [])

    async def step(self, action):
        world.count_step()
        await world.before_step(self.group, self.member, self.turn)
        self.turn += 1
        reward = sum(token % 2 == 0 for token in action) / len(action)
        self.history += [*action, 9]
        return StepResult(
            reward,
            self.turn == self.turns,
            ModelInput.from_ints(self.history),
            [],
            {"even": reward},
        )


class Group(EnvGroupBuilder):
    def __init__(self, number, size):
        self.number, self.size = number, size

    async def make_envs(self):
        world.make(self.number)
        return [EvenTokens(self.number, member) for member in range(self.size)]


class Groups(RLDataset):
    def __init__(self, data, num_batches, first=0):
        self.data, self.num_batches, self.first = data, num_batches, first

    def get_batch(self, index):
        start = self.first + index * self.data.batch_size
        numbers = range(start, start + self.data.batch_size)
        return [Group(number, self.data.group_size) for number in numbers]

    def __len__(self):
        return self.num_batches


@chz.chz
class Data(RLDatasetBuilder):
    batch_size: int = 2
    group_size: int = 2
    num_batches: int = 5
    held_out: bool = False

    async def __call__(self):
        held_out = Groups(self, 1, HELD_OUT) if self.held_out else None
        return Groups(self, self.num_batches), held_out


def config(log_path, dataset_builder=None, **options):
    """Options of a short run."""
    return Config(
        **{
            "learning_rate": 1e-3,
            "dataset_builder": dataset_builder or Data(),
            "model_name": "tiny",
            "max_tokens": 3,
            "log_path": str(log_path),
            "lora_rank": 4,
            "eval_every": 0,
            "save_every": 0,
            **options,
        }
    )


def ahead(steps=2, size=2, **options):
    return AsyncConfig(max_steps_off_policy=steps, groups_per_batch=size, **options)


def fixed(steps=2, size=2):
    return ahead(steps, size, lag="fixed")


def stream(num_minibatches, size=2):
    return StreamMinibatchConfig(groups_per_batch=size, num_minibatches=num_minibatches)


def rows(log_path):
    """What is said of each step, its evaluation with it, without the times that things took."""
    by_step = {}
    for line in (Path(log_path) / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        known = by_step.setdefault(row["step"], {})
        timeless = {
            name: value
            for name, value in row.items()
            if not name.startswith("time/") and not name.endswith(("_per_second", "_seconds"))
        }
        assert known.keys() & timeless.keys() <= {"step"}  # nothing is said twice
        known |= timeless
    return [by_step[step] for step in sorted(by_step)]


def records(log_path, name=JOURNAL_FILE):
    """The groups, commits and evaluations of a journal: by number, step and version."""
    with Journal.read(Path(log_path) / name) as journal:
        return SimpleNamespace(
            groups={n: journal.read_group(n) for n in sorted(journal.finished_groups())},
            commits=journal.commits,
            evaluations=sorted(journal.evaluations, key=lambda record: record.version),
            starts=journal.starts,
            said=[s for c in journal.commits if (s := journal.read_trained(c.step)) is not None],
        )


def account(log_path):
    """All that two equal runs agree on: rows, and the journal in the order of its numbers."""
    found = records(log_path)
    every = [*found.groups.values(), *found.commits, *found.evaluations, *found.said]
    return rows(log_path), [encode(without_times(record)) for record in every]


def hashes(log_path):
    """Of the weights that each step made."""
    found = [commit.weight_hash for commit in records(log_path).commits]
    assert all(found)
    assert len(set(found)) == len(found)
    return found


def trained(log_path):
    """Numbers of the groups that trained, step by step."""
    return [number for commit in records(log_path).commits for number in commit.groups]


def checkpoints(log_path):
    path = Path(log_path) / "checkpoints.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="session")
def runs(service, tmp_path_factory):
    """What the tests of whole runs share."""
    known = {}

    def unbroken(**options):
        """The folder of a run of these options that nothing disturbed."""
        key = json.dumps(dump_config(config("", **options)))
        if key not in known:
            known[key] = tmp_path_factory.mktemp("unbroken")
            run(config(known[key], **options))
        return known[key]

    def run(config, backend="trio", service=service):
        return anyio.run(main, config, service, backend=backend)

    def run_for(num_steps, config, backend="trio"):
        """Cancel a run from outside, as a kill would, after so many steps of environments; say
        whether it came to that."""

        async def cut_off():
            with anyio.CancelScope() as scope:
                world.after_steps(num_steps, scope.cancel)
                await main(config, service)
            return scope.cancelled_caught

        return anyio.run(cut_off, backend=backend)

    def run_until(happened, config, backend="trio"):
        """Cancel a run from outside as soon as something is true, which must be before its end."""

        async def watch(scope):
            while not happened():  # noqa: ASYNC110, a file tells no event
                await anyio.sleep(0.02)
            scope.cancel()

        async def cut_off():
            with anyio.fail_after(60):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(watch, tasks.cancel_scope)
                    await main(config, service)
                assert tasks.cancel_scope.cancel_called

        anyio.run(cut_off, backend=backend)

    return SimpleNamespace(
        **{
            function.__name__: function
            for function in (
                account,
                ahead,
                checkpoints,
                config,
                fixed,
                hashes,
                records,
                rows,
                run,
                run_for,
                run_until,
                stream,
                trained,
            )
        },
        Data=Data,
        unbroken=unbroken,
        service=service,
        HELD_OUT=HELD_OUT,
    )


@pytest.fixture(name="world")
def _world():
    """A fresh world."""
    world.reset()
    return world
