"""What rolling out costs beside what environments and sampler cost themselves."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import anyio
import psutil

from tinker_rl import ModelInput
from tinker_rl.completers import ScriptedTokenCompleter, StopCondition, TokenCompleter
from tinker_rl.completers import TokensWithLogprobs as Action
from tinker_rl.envs import Env, EnvGroupBuilder, StepResult
from tinker_rl.policies import EpisodeKey, FixedLimit, SamplerGate
from tinker_rl.rl.outcomes import RolledOutGroup
from tinker_rl.rl.rollouts import do_group_rollout
from tinker_rl.tokenizers import get_tokenizer

MEMBERS = 8
"""Environments of a group."""
TURNS = 10
WORK_SECONDS = 0.25e-3
PROMPT = ModelInput.from_ints(range(300, 400))
ANSWER = [300, 301, 302, 303]


def tokeniser_work() -> Callable[[], object]:
    """Encodes a text that takes the tokenizer of `tiny` 0.25 ms on this machine."""
    tokenizer = get_tokenizer("tiny")
    words, text = 8, ""
    while True:
        text = "how much is 12 and 30? " * words
        started = time.thread_time()
        for _ in range(20):
            tokenizer.encode(text)
        seconds = (time.thread_time() - started) / 20
        if seconds >= WORK_SECONDS:
            break
        words += 1
    return lambda: tokenizer.encode(text)


class WorkingEnv(Env):
    """So many turns, each with a tokeniser's work and a turn of the event loop."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._turns_left = TURNS

    async def initial_observation(self) -> tuple[ModelInput, StopCondition]:
        return PROMPT, []

    async def step(self, action: Sequence[int]) -> StepResult:
        self._work()
        await anyio.sleep(0)  # noqa: ASYNC115 - as an environment's author would write it
        self._turns_left -= 1
        return StepResult(
            reward=1.0,
            episode_done=not self._turns_left,
            next_observation=PROMPT,
            next_stop_condition=[],
        )


class WorkingGroup(EnvGroupBuilder):
    """A group of them."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work

    async def make_envs(self) -> list[Env]:
        return [WorkingEnv(self._work) for _ in range(MEMBERS)]


async def _play(env: Env, completer: TokenCompleter) -> None:
    observation, stop = await env.initial_observation()
    while True:
        action = await completer(observation, stop)
        result = await env.step(action.tokens)
        if result.episode_done:
            return
        observation, stop = result.next_observation, result.next_stop_condition


def bare(num_envs: int, work: Callable[[], object]) -> float:
    """Seconds of a loop that does nothing else, under asyncio.gather."""

    async def main() -> None:
        completer = ScriptedTokenCompleter(lambda _: ANSWER)
        await asyncio.gather(*(_play(WorkingEnv(work), completer) for _ in range(num_envs)))

    return _seconds(lambda: asyncio.run(main()))


def runtime(num_envs: int, work: Callable[[], object], backend: str) -> float:
    """Seconds of rolling out groups."""
    return _seconds(lambda: anyio.run(_roll_out, num_envs, work, backend=backend))


async def _roll_out(num_envs: int, work: Callable[[], object]) -> None:
    completer = ScriptedTokenCompleter(lambda _: ANSWER)

    async def one(group: int) -> None:
        key = EpisodeKey(run_seed=0, group=group)
        outcome = await do_group_rollout(WorkingGroup(work), completer, key)
        assert isinstance(outcome, RolledOutGroup), outcome
        assert outcome.num_sampled_tokens == MEMBERS * TURNS * len(ANSWER)

    async with anyio.create_task_group() as groups:
        for group in range(num_envs // MEMBERS):
            groups.start_soon(one, group)


def _seconds(function: Callable[[], object]) -> float:
    gc.collect()
    started = time.thread_time()
    function()
    return time.thread_time() - started


# --------------------------------------------------------------------------------------- memory


class _Waits(TokenCompleter):
    """Waits for a slot that never comes."""

    def __init__(self, gate: SamplerGate) -> None:
        self._gate = gate

    async def __call__(
        self, model_input: ModelInput, stop: StopCondition, *, max_tokens: int | None = None
    ) -> Action:
        async with self._gate.slot((1,)):
            raise AssertionError


async def _waiting(num_envs: int) -> float:
    process = psutil.Process()
    gate = SamplerGate(FixedLimit(1))
    async with gate.slot((0,)), anyio.create_task_group() as groups:
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        before = process.memory_info().rss
        completer = _Waits(gate)
        for group in range(num_envs // MEMBERS):
            key = EpisodeKey(run_seed=0, group=group)
            builder = WorkingGroup(lambda: None)
            groups.start_soon(do_group_rollout, builder, completer, key)
        await anyio.wait_all_tasks_blocked()
        assert gate.num_waiting == num_envs // MEMBERS * MEMBERS
        used = process.memory_info().rss - before
        groups.cancel_scope.cancel()
    return used / num_envs / 1024


def kb_per_env(num_envs: int, backend: str) -> float:
    """KiB of resident memory for each environment that waits for the sampler; a fresh process."""
    command = [sys.executable, os.path.abspath(__file__), str(num_envs), backend]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


if __name__ == "__main__":
    print(anyio.run(_waiting, int(sys.argv[1]), backend=sys.argv[2]))
