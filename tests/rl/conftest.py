"""Strategies and small builders that the tests of RL share."""

import gc
from types import SimpleNamespace

import anyio
import anyio.lowlevel
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.envs import Trajectory, TrajectoryGroup, Transition
from tinker_rl.types import EncodedTextChunk, ModelInput

# Files, threads and other work on the same cores take their time.
settings.register_profile("rl", parent=settings.default, deadline=None)
settings.load_profile("rl")


@pytest.fixture(autouse=True, scope="module")
def _frozen_heap():
    """What was imported since the collection of tests is not walked through either."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


tokens = st.lists(st.integers(0, 9), max_size=5)
rewards = st.floats(-100, 100, width=32)


def chunked(ids, cut):
    """A model input of two chunks, so that nothing may rely on there being one."""
    cut = min(cut, len(ids))
    return ModelInput((EncodedTextChunk(tuple(ids[:cut])), EncodedTextChunk(tuple(ids[cut:]))))


@st.composite
def actions(draw, min_size=0):
    ids = draw(st.lists(st.integers(0, 9), min_size=min_size, max_size=4))
    logprobs = draw(st.lists(st.floats(-20, 0, width=32), min_size=len(ids), max_size=len(ids)))
    version = draw(st.none() | st.integers(0, 5))
    return TokensWithLogprobs(ids, logprobs, policy_version=version)


@st.composite
def trajectories(draw, max_turns=4, min_action=0, step_rewards=rewards):
    """Episodes whose observations extend the history, or rewrite it, or happen to repeat it."""
    transitions = []
    history = []
    num_turns = draw(st.integers(0, max_turns))
    for turn in range(num_turns):
        new = draw(tokens)
        if draw(st.booleans()):
            history = []
        observation = history + new or [1]
        action = draw(actions(min_action))
        transitions.append(
            Transition(
                ob=chunked(observation, draw(st.integers(0, 5))),
                ac=action,
                reward=draw(step_rewards),
                episode_done=turn == num_turns - 1,
            )
        )
        history = observation + action.tokens
    return Trajectory(transitions=transitions, final_ob=ModelInput.empty())


@st.composite
def groups(draw, min_size=1, max_size=4, step_rewards=rewards):
    size = draw(st.integers(min_size, max_size))
    return TrajectoryGroup(
        trajectories_G=[draw(trajectories(step_rewards=step_rewards)) for _ in range(size)],
        final_rewards_G=[draw(step_rewards) for _ in range(size)],
        metrics_G=[{} for _ in range(size)],
    )


def one_step_trajectory(
    prompt, action, reward=0.0, logprobs=None, version=0, metrics=None, stop_reason=None
):
    """An episode of one turn."""
    if logprobs is None:
        logprobs = [-1.0] * len(action)
    transition = Transition(
        ob=ModelInput.from_ints(prompt),
        ac=TokensWithLogprobs(list(action), list(logprobs), policy_version=version),
        reward=reward,
        episode_done=True,
        metrics=metrics or {},
    )
    return Trajectory(
        transitions=[transition], final_ob=ModelInput.empty(), stop_reason=stop_reason
    )


def group_of(rewards_G, **kwargs):
    """A group of one-turn episodes with these rewards."""
    return TrajectoryGroup(
        trajectories_G=[one_step_trajectory([1, 2], [3, 4], r, **kwargs) for r in rewards_G],
        final_rewards_G=[0.0 for _ in rewards_G],
        metrics_G=[{} for _ in rewards_G],
    )


@pytest.fixture(scope="session")
def episodes():
    """Strategies of episodes and builders of simple ones; draw with `data.draw(...)`."""
    return SimpleNamespace(
        actions=actions,
        trajectories=trajectories,
        groups=groups,
        one_step_trajectory=one_step_trajectory,
        group_of=group_of,
    )


class Runner:
    """Runs an async function on one backend; time is counted in ticks."""

    def __init__(self, backend):
        self.backend = backend

    def __call__(self, function, *args):
        """Run to the end: on trio, on a fresh clock that jumps over every sleep."""
        options = {}
        if self.backend == "trio":
            options["clock"] = MockClock(autojump_threshold=0)
        return anyio.run(function, *args, backend=self.backend, backend_options=options)

    async def pause(self, num_ticks):
        """A tick is a virtual second on trio, and a turn of the event loop on asyncio."""
        if self.backend == "trio":
            await anyio.sleep(num_ticks)
        else:
            for _ in range(num_ticks):
                await anyio.lowlevel.checkpoint()

    async def cancel_after(self, num_ticks, function, *args):
        """Run a function, cancelled after so many ticks; give its result, or None if cut short."""
        result = None
        async with anyio.create_task_group() as tasks:

            async def cancel():
                await self.pause(num_ticks)
                tasks.cancel_scope.cancel()

            tasks.start_soon(cancel)
            result = await function(*args)
            tasks.cancel_scope.cancel()
        return result


@pytest.fixture(scope="session", params=["trio", "asyncio"])
def run(request):
    return Runner(request.param)


@pytest.fixture(scope="session")
def virtual():
    """Trio alone, whose virtual clock counts exact seconds."""
    return Runner("trio")
