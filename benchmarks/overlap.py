"""How well sampling and training overlap: the real window, pipeline and gate, in virtual time.

The sampler is 512 slots of one token rate, the learner takes a batch's tokens at the rate of all
slots together, publishing takes no time. The ideal is the time that either needs alone.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

import anyio
import numpy as np
from trio.testing import MockClock

from tinker_rl.policies import FixedLimit, SamplerGate
from tinker_rl.rl.pipeline import run_pipeline
from tinker_rl.rl.window import Commit, Minibatch, Ticket, Window

STEPS, GROUPS, MEMBERS, SLOTS = 200, 32, 16, 512
"""Batches, groups a batch, episodes a group, requests at the sampler at a time."""
MEAN_TOKENS = 200
"""Of an episode before the cut. One token of one slot is the unit of time."""


@dataclass(frozen=True)
class Schedule:
    """Options of the window."""

    name: str
    max_steps_off_policy: int = 0
    straggler: str = "wait"
    num_minibatches: int = 1
    max_masked_fraction: float = 1.0


@dataclass(frozen=True)
class Overlap:
    """What a schedule came to."""

    wall_over_ideal: float
    highest_age: int
    """Of a token when its batch is trained, masked or not, in versions."""
    wasted: float
    """Share of the sampled tokens that did not train."""


def lengths(steps: int, seed: int = 0) -> np.ndarray:
    """Tokens of every episode: lognormal, cut at 4 times the mean before the cut. Shape [N, G]."""
    generator = np.random.default_rng(seed)
    drawn = generator.lognormal(np.log(MEAN_TOKENS) - 0.5, 1.0, (steps * GROUPS, MEMBERS))
    return np.maximum(1, np.minimum(drawn, 4 * MEAN_TOKENS).round()).astype(np.int64)


def simulate(schedule: Schedule, steps: int = STEPS) -> Overlap:
    """Run the pipeline of tinker_rl on a clock that jumps over every sleep."""
    clock = MockClock(autojump_threshold=0)
    options = {"clock": clock}
    return anyio.run(_simulate, schedule, steps, backend="trio", backend_options=options)


async def _simulate(schedule: Schedule, steps: int) -> Overlap:
    tokens_NG = lengths(steps)
    tokens_N = tokens_NG.sum(axis=1)
    bound = schedule.max_steps_off_policy
    gate = SamplerGate(FixedLimit(SLOTS))
    highest_age = over_age = 0
    window: Window[int] = Window(
        GROUPS,
        bound,
        steps,
        num_minibatches=schedule.num_minibatches,
        straggler=schedule.straggler,  # type: ignore[arg-type]
        max_masked_fraction=schedule.max_masked_fraction,
    )

    async def play(group: int, member: int) -> None:
        async with gate.slot((group, member)):
            await anyio.sleep(int(tokens_NG[group, member]))

    async def roll_out(ticket: Ticket) -> int:
        async with anyio.create_task_group() as members:
            for member in range(MEMBERS):
                members.start_soon(play, ticket.group, member)
        return ticket.policy_version

    async def learn(minibatch: Minibatch[int]) -> Commit | None:
        nonlocal highest_age, over_age
        for group, version in zip(minibatch.groups, minibatch.results, strict=True):
            age = minibatch.batch - version
            highest_age = max(highest_age, age)
            over_age += int(tokens_N[group]) if age > bound else 0
        await anyio.sleep(float(tokens_N[list(minibatch.groups)].sum() / SLOTS))
        version = minibatch.batch + 1
        return Commit(version=version, acting_version=version) if minibatch.is_last else None

    await run_pipeline(window, roll_out, learn, window.num_slots)
    ideal = tokens_N.sum() / SLOTS
    return Overlap(anyio.current_time() / float(ideal), highest_age, over_age / int(tokens_N.sum()))


def simulate_discarding(max_steps_off_policy: int, steps: int = STEPS) -> Overlap:
    """A scheduler that never holds a slot back, and bounds ages at the end.

    A batch is the first groups that are finished; those that are then too old are thrown away, and
    their prompts are sampled again with the newest weights.
    """
    return _Discarding(max_steps_off_policy, steps).run()


class _Discarding:
    def __init__(self, max_steps_off_policy: int, steps: int) -> None:
        self.bound = max_steps_off_policy
        self.rows = lengths(steps)
        self.generator = np.random.default_rng(1)
        self.now = 0.0
        self.version = self.num_started = self.free = 0
        self.waiting: deque[tuple[int, int]] = deque()
        """(group, tokens) of episodes of a group that has begun."""
        self.groups: dict[int, list[int]] = {}
        """[version, tokens, episodes left] of each group under way."""
        self.ready: list[tuple[int, int]] = []
        """(version, tokens) of groups that are finished, in that order."""
        self.training: list[tuple[int, int]] = []
        self.events: list[tuple[float, int, int]] = []
        """(time, group, tokens) of episodes to end; group -1: of the batch in training."""
        self.sampled = self.useful = self.highest_age = 0

    def run(self) -> Overlap:
        self.free = SLOTS
        while self.version < len(self.rows) // GROUPS:
            self.fill()
            self.train()
            self.now, group, tokens = heapq.heappop(self.events)
            self.end_episode(group, tokens) if group >= 0 else self.end_training()
        waste = 1 - self.useful / self.sampled
        return Overlap(self.now * SLOTS / self.useful, self.highest_age, waste)

    def fill(self) -> None:
        while self.free:
            if not self.waiting:
                self.begin_group()
            group, tokens = self.waiting.popleft()
            self.free -= 1
            heapq.heappush(self.events, (self.now + tokens, group, tokens))

    def begin_group(self) -> None:
        """The next group; after the last, one sampled again has lengths drawn anew."""
        group, self.num_started = self.num_started, self.num_started + 1
        row = self.rows[
            group if group < len(self.rows) else self.generator.integers(len(self.rows))
        ]
        self.groups[group] = [self.version, int(row.sum()), MEMBERS]
        self.waiting.extend((group, tokens) for tokens in row.tolist())

    def end_episode(self, group: int, tokens: int) -> None:
        self.free += 1
        self.sampled += tokens
        state = self.groups[group]
        state[2] -= 1
        if not state[2]:
            self.ready.append((state[0], state[1]))
            del self.groups[group]

    def train(self) -> None:
        if self.training:
            return
        self.ready = [group for group in self.ready if self.version - group[0] <= self.bound]
        if len(self.ready) < GROUPS:
            return
        self.training, self.ready = self.ready[:GROUPS], self.ready[GROUPS:]
        tokens = sum(tokens for _, tokens in self.training)
        oldest = min(version for version, _ in self.training)
        self.highest_age = max(self.highest_age, self.version - oldest)
        self.useful += tokens
        heapq.heappush(self.events, (self.now + tokens / SLOTS, -1, 0))

    def end_training(self) -> None:
        self.training = []
        self.version += 1
