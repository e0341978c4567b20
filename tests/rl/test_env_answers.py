"""What environments and builders answer wrong is told by class and method, and what to do."""

import asyncio
import math
from types import SimpleNamespace

import anyio
import anyio.lowlevel
import numpy as np
import pytest
import trio

from tinker_rl.completers import ScriptedTokenCompleter, TokensWithLogprobs
from tinker_rl.envs import (
    Env,
    EnvFromMessageEnv,
    EnvGroupBuilder,
    MessageEnv,
    MessageStepResult,
    ProblemEnv,
    StepResult,
)
from tinker_rl.policies import EpisodeKey
from tinker_rl.renderers import get_renderer
from tinker_rl.rl import (
    Completed,
    DroppedGroup,
    EnvFailure,
    RolledOutGroup,
    RolloutLimits,
    do_group_rollout,
    do_single_rollout,
)
from tinker_rl.tokenizers import get_tokenizer
from tinker_rl.types import ModelInput

PROMPT = ModelInput.from_ints([1])
DONE = StepResult(1.0, True, ModelInput.empty(), [0])
HELLO = [{"role": "user", "content": "hello"}]
LIMITS = RolloutLimits(max_step_seconds=0.2)
ASYNCIO = "anyio.run(main, config, backend='asyncio')"


class Good(Env):
    async def initial_observation(self):
        return PROMPT, [0]

    async def step(self, action, *, extra=None):
        return DONE


class Talk(MessageEnv):
    async def initial_observation(self):
        return HELLO

    async def step(self, message):
        return MessageStepResult(1.0, True, [*HELLO, message])


@pytest.fixture(scope="module")
def renderer():
    return get_renderer("qwen3_instruct", get_tokenizer("tiny"))


@pytest.fixture(scope="module")
def says(renderer):
    """A completer that says hello."""
    return ScriptedTokenCompleter(
        lambda _: renderer.tokenizer.encode("hello<|im_end|>", add_special_tokens=False)
    )


def talking(method, function, name="TwoSums", **attributes):
    """A class of the user's that does one thing otherwise."""
    return type(name, (Talk,), {method: function, **attributes})


def no_coroutine(self, message):
    return MessageStepResult(1.0, True, HELLO)


def answers(value):
    async def answer(self, *_):
        return value() if callable(value) else value

    return answer


async def hangs(self, *_):
    await anyio.sleep_forever()


async def yields(self, *_):
    yield HELLO


BAD_TALKS = [
    ("step", answers((1.0, True, HELLO)), "TwoSums.step: expected a MessageStepResult; got tuple."),
    ("step", answers(None), "TwoSums.step: expected a MessageStepResult; got None. Return Message"),
    ("step", answers(DONE), "TwoSums.step: expected a MessageStepResult; got StepResult."),
    ("step", no_coroutine, "TwoSums.step: expected a coroutine; got MessageStepResult. Define it"),
    ("step", yields, "got async_generator. Return the answer instead of yielding it with"),
    ("step", hangs, "TwoSums.step: expected an answer within 0.2 seconds"),
    (
        "step",
        answers(lambda: MessageStepResult(math.nan, True, HELLO)),
        "TwoSums.step: MessageStepResult.reward: expected a finite number; got nan.",
    ),
    (
        "step",
        answers(lambda: MessageStepResult(1.0, True, HELLO, {"said": "hello"})),
        "TwoSums.step: MessageStepResult.metrics['said']: expected a number; got 'hello'.",
    ),
    (
        "step",
        answers(lambda: MessageStepResult(1.0, True, HELLO, None)),
        "TwoSums.step: MessageStepResult.metrics: expected a dict of numbers; got None.",
    ),
    (
        "step",
        answers(lambda: MessageStepResult(1.0, True, HELLO, {}, "log")),
        "TwoSums.step: MessageStepResult.logs: expected a dict; got str.",
    ),
    (
        "step",
        answers(lambda: MessageStepResult(1.0, True, "bye")),
        "TwoSums.step: MessageStepResult.next_messages: expected a list of messages; got str.",
    ),
    (
        "step",
        answers(lambda: MessageStepResult(1.0, False, HELLO, stop_reason="max_turns")),
        "TwoSums.step: MessageStepResult.stop_reason: expected None while the episode goes on",
    ),
    (
        "initial_observation",
        answers("hello"),
        "TwoSums.initial_observation: expected a list of messages; got str.",
    ),
    (
        "initial_observation",
        answers(HELLO[0]),
        "TwoSums.initial_observation: expected a list of messages; got dict.",
    ),
    (
        "initial_observation",
        answers(["hello"]),
        "TwoSums.initial_observation[0]: expected a message, a dict with role and content; got 'h",
    ),
    (
        "initial_observation",
        answers([{"role": "user", "text": "x" * 100}]),
        "xxx.... Write {'role': 'user', 'content': ...}.",
    ),
    ("initial_observation", answers([]), "expected a message that the policy can answer; got none"),
    ("initial_observation", hangs, "TwoSums.initial_observation: expected an answer within 0.2"),
]


@pytest.mark.parametrize(("method", "function", "error"), BAD_TALKS)
@pytest.mark.parametrize("runs_in", ["loop", "thread"])
def test_what_a_message_env_answers_wrong_is_said_of_the_users_class_and_line(
    backend, renderer, says, method, function, error, runs_in
):
    env = EnvFromMessageEnv(renderer, talking(method, function, runs_in=runs_in)())
    limits = LIMITS if function is hangs else RolloutLimits()
    failure = anyio.run(do_single_rollout, says, env, limits, backend=backend)
    assert isinstance(failure, EnvFailure)
    assert failure.where == method
    assert error in failure.error
    assert failure.location.startswith(f"{__file__}:")


def test_a_method_that_is_inherited_from_us_is_placed_at_the_users_class(backend, renderer, says):
    class Letters(ProblemEnv):
        runs_in = "thread"

        def get_question(self):
            return "Which?"

        def check_answer(self, sample_str):
            import time

            time.sleep(1)

        check_format = check_answer

        def get_reference_answer(self):
            return ""

    failure = anyio.run(do_single_rollout, says, Letters(renderer), LIMITS, backend=backend)
    assert failure.error.startswith("Letters.step: expected an answer within 0.2 seconds")
    line = test_a_method_that_is_inherited_from_us_is_placed_at_the_users_class
    assert failure.location == f"{__file__}:{line.__code__.co_firstlineno + 1}"


# ------------------------------------------------------------------------------ event loops


async def sleeps(self, *_, **__):
    await asyncio.sleep(0.01)
    return DONE


async def sleeps_not(self, *_, **__):
    await asyncio.sleep(0)
    return DONE


async def hurries(self, *_, **__):
    async with asyncio.timeout(1):
        return await Good.step(self, [])


@pytest.mark.parametrize("step", [sleeps, sleeps_not, hurries])
@pytest.mark.parametrize("runs_in", ["loop", "thread"])
def test_asyncio_code_runs_in_threads_and_elsewhere_is_told_how_to(backend, says, step, runs_in):
    env = type("Waits", (Good,), {"step": step, "runs_in": runs_in})()
    outcome = anyio.run(do_single_rollout, says, env, backend=backend)
    if backend == "trio" and runs_in == "loop":
        assert isinstance(outcome, EnvFailure)
        assert "(This run is on trio: write environments with anyio, set runs_in = 'thr" in (
            outcome.error
        )
        assert ASYNCIO in outcome.error
    else:
        assert isinstance(outcome, Completed)


@pytest.mark.parametrize("runs_in", ["loop", "thread"])
def test_trio_code_on_asyncio_is_told_how_to(backend, says, runs_in):
    class Waits(Good):
        async def step(self, action, *, extra=None):
            await trio.lowlevel.checkpoint()
            return DONE

    Waits.runs_in = runs_in
    outcome = anyio.run(do_single_rollout, says, Waits(), backend=backend)
    if backend == "trio" and runs_in == "loop":
        assert isinstance(outcome, Completed)
    else:
        assert "(This code runs on asyncio, where trio's functions do not work" in outcome.error


# --------------------------------------------------------------------------------- builders


class Pair(EnvGroupBuilder):
    async def make_envs(self):
        return [Good(), Good()]


def build(method, answer, name="Pairs"):
    return type(name, (Pair,), {method: answer})()


def roll_out(run, builder):
    async def sample(_):
        await anyio.lowlevel.checkpoint()
        return TokensWithLogprobs([5], [-1.0])

    key = EpisodeKey(run_seed=0, group=0)
    return run(do_group_rollout, builder, ScriptedTokenCompleter(sample), key)


HALF = type("Half", (), {"step": Good.step})

BAD_BUILDERS = [
    ("make_envs", answers(None), "expected a list of environments; got None. Return one Env for"),
    ("make_envs", answers(Good), "got Good. Return one Env"),
    ("make_envs", answers("abc"), "expected a list of environments; got str."),
    ("make_envs", answers({}), "expected a list of environments; got dict."),
    ("make_envs", answers([Good()] * 4), "expected 4 environments, one for each episode; got 1,"),
    ("make_envs", answers(list), "expected at least one environment; got none."),
    ("make_envs", lambda self: [Good()], "expected a coroutine; got list. Define it with `async"),
    ("make_envs", answers([Talk()]), "got Talk, a MessageEnv. Wrap it in EnvFromMessageEnv(rende"),
    ("make_envs", answers([Good(), None]), "expected an Env; got None, without initial_observat"),
    ("make_envs", answers([Good]), "expected an Env; got the class Good. Make one: Good(...)."),
    ("make_envs", answers([HALF()]), "got Half, without initial_observation. Derive its class"),
    ("make_envs", sleeps_not, "write builders with anyio, or run all of it on asyncio"),
    ("compute_group_rewards", answers(None), "2 (reward, metrics) pairs, one per trajectory; got"),
    ("compute_group_rewards", answers([1.0, 2.0]), "got a list with float in it. Return [(reward"),
    ("compute_group_rewards", answers([(1.0, None)] * 2), "got a list with tuple in it."),
    ("compute_group_rewards", answers([(1.0, {})] * 3), "one per trajectory; got 3. Return"),
    ("compute_group_rewards", answers([]), "one per trajectory; got 0. Return"),
    ("compute_group_rewards", lambda self, *_: [], "expected a coroutine; got list. Define it"),
    ("compute_group_rewards", answers([(math.nan, {})] * 2), "[0]: expected a finite number; got"),
    (
        "compute_group_rewards",
        answers([(0.0, {"a": "b"})] * 2),
        "['a']: expected a number; got 'b'",
    ),
    ("logging_tags", lambda self: "all", "expected a list of strings; got 'all'."),
    ("logging_tags", lambda self: [1], "expected a list of strings; got [1]."),
    ("logging_tags", lambda self: None, "expected a list of strings; got None."),
    ("logging_tags", answers([]), "got a coroutine. Define it with `def`, not `async def`."),
]


@pytest.mark.parametrize(("method", "answer", "error"), BAD_BUILDERS)
def test_what_a_builder_answers_wrong_is_said_of_its_class_and_method(run, method, answer, error):
    if answer is sleeps_not and run.backend == "asyncio":
        error = "expected a list of environments; got StepResult."
    outcome = roll_out(run, build(method, answer))
    assert isinstance(outcome, DroppedGroup)
    assert outcome.member is None
    failure = outcome.failure
    assert failure.where == method
    assert error in failure.error
    assert failure.error.startswith(f"Pairs.{method}: ") or answer is sleeps_not
    assert failure.location.startswith(f"{__file__}:")


def test_a_clean_up_that_cannot_be_awaited_is_told(run):
    outcome = roll_out(run, build("cleanup", lambda self: None))
    assert outcome.cleanup_error.endswith(
        "Pairs.cleanup: expected a coroutine; got None. Define it with `async def cleanup`."
    )


@pytest.mark.parametrize(
    "pairs",
    [
        [(1, {"a": 1}), [np.float32(2), {}]],
        ((reward, {}) for reward in (1.0, 2.0)),
    ],
)
def test_rewards_may_come_in_any_iterable_of_pairs(virtual, pairs):
    outcome = roll_out(virtual, build("compute_group_rewards", answers(pairs)))
    assert isinstance(outcome, RolledOutGroup)
    assert outcome.group.get_total_rewards() == [2.0, 3.0]


@pytest.mark.parametrize("kind", [tuple, iter])
def test_environments_may_come_in_any_iterable_and_need_no_base_class(virtual, kind):
    duck = SimpleNamespace(
        initial_observation=Good().initial_observation,
        step=lambda action: Good().step(action),
    )
    outcome = roll_out(virtual, build("make_envs", answers(kind([Good(), Good()]))))
    assert isinstance(outcome, RolledOutGroup)
    assert virtual(do_single_rollout, ScriptedTokenCompleter([[5]]), duck).trajectory


def test_a_message_env_in_an_episode_is_to_be_wrapped(virtual):
    failure = virtual(do_single_rollout, ScriptedTokenCompleter([[5]]), Talk())
    assert failure.error == (
        "Talk.initial_observation: expected an Env; got Talk, a MessageEnv. Wrap it in "
        "EnvFromMessageEnv(renderer, env)."
    )


def test_a_step_in_messages_is_told_of_the_adapter(virtual):
    class Mixed(Good):
        async def step(self, action):
            return MessageStepResult(1.0, True, [])

    failure = virtual(do_single_rollout, ScriptedTokenCompleter([[5]]), Mixed())
    assert "got MessageStepResult. Derive the class from MessageEnv and wrap it" in failure.error
