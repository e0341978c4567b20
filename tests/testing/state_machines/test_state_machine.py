"""State machines over environments: what they find, what they print, and that they tidy up."""

import asyncio
import math
import threading
import unittest
from functools import partial

import anyio
import pytest
import sniffio
import trio
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tinker_rl.envs import (
    Env,
    EnvFromMessageEnv,
    MessageEnv,
    MessageStepResult,
    StepResult,
    current_rng,
    load_renderer,
)
from tinker_rl.errors import RequestError
from tinker_rl.testing.clock import run_in_virtual_time
from tinker_rl.testing.state_machines.state_machine import (
    EnvStateMachine,
    machine_settings,
    run_env_state_machine,
    turn,
)
from tinker_rl.types import ModelInput

run = partial(run_env_state_machine, max_examples=5, max_steps=8)
find = partial(run, phases=[Phase.generate])  # as it was drawn, not shrunk


class Counter(MessageEnv):
    """Says how often it was spoken to, three times."""

    def __init__(self):
        self.messages = [{"role": "user", "content": "0"}]
        self.turns = 0

    async def initial_observation(self):
        await anyio.sleep(300)
        return list(self.messages)

    async def step(self, message):
        if self.turns == 3:
            raise RuntimeError("it is over")
        self.turns += 1
        await anyio.sleep(60)
        self.messages += [message, {"role": "user", "content": str(self.turns)}]
        return MessageStepResult(self.reward(), self.turns == 3, self.history())

    def reward(self):
        return float(self.turns)

    def history(self):
        return list(self.messages)


class CounterMachine(EnvStateMachine):
    """Its model counts, too."""

    max_turns = 3
    env_class = Counter

    def make_env(self):
        return self.env_class()

    def make_model(self):
        assert self.shown() == "0"
        return 0

    @turn(text=st.text(max_size=3))
    def speak(self, text):
        result = self.act(text)
        self.model += 1
        assert self.shown() == str(self.model)
        assert result.reward == self.model
        assert self.is_over == (self.model == 3)
        assert self.result() is result


def machine(env, **fields):
    """A machine over another environment, with other fields."""
    return type("Machine", (CounterMachine,), {"env_class": env, **fields})


def test_an_environment_that_agrees_with_its_model_passes(backend):
    run(machine(Counter, backend=backend))


def test_it_runs_as_a_test_case():
    case = machine(Counter).TestCase
    case.settings = machine_settings(max_examples=5, max_steps=8)
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.testsRun == 1
    assert result.wasSuccessful(), result.errors


class Miscounts(Counter):
    def reward(self):
        return float(self.turns + (self.turns > 1))


def test_a_failing_run_is_shrunk_and_shown_as_script_and_transcript(backend):
    with pytest.raises(AssertionError) as raised:
        run(machine(Miscounts, backend=backend))
    shown = "\n".join(raised.value.__notes__)
    script = "state.begin(seed=0)\nstate.speak(text='')\nstate.speak(text='')\nstate.teardown()"
    assert script in shown
    transcript = (
        "# what was played:\n# member 0, Miscounts:\n  sees    user: '0'\n"
        "  writes  ''\n  earns   1\n  sees    user: '1'\n"
        "  writes  ''\n  earns   3\n  sees    user: '2'"
    )
    assert transcript in raised.value.__notes__


class GoesOn(Env):
    """Accepts a move after its end."""

    def __init__(self):
        self.tokens = [1]

    async def initial_observation(self):
        return ModelInput.from_ints(self.tokens), [0]

    async def step(self, action):
        self.tokens += [*action, 1]
        return StepResult(1.0, True, ModelInput.from_ints(self.tokens), [0])


class ComesToAnEnd(Counter):
    """Remembers nothing of its end, as `EnvFromMessageEnv` does that for it."""

    async def step(self, message):
        self.turns = min(self.turns, 2)
        return await super().step(message)


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_a_conversation_need_not_remember_that_it_is_over(is_wrapped, backend):
    class Machine(CounterMachine):
        def make_env(self):
            env = ComesToAnEnd()
            renderer = load_renderer("tiny", "qwen3_instruct")
            return EnvFromMessageEnv(renderer, env) if is_wrapped else env

        @turn(text=st.text("ab", max_size=3))
        def speak(self, text):
            result = self.act(text)
            assert self.shown() == str(len(self.members[0].results))
            assert result.episode_done == (self.shown() == "3")

    Machine.backend = backend
    run(Machine)


def test_what_a_conversation_tells_the_policy_itself_is_shown():
    """Not the environment's words alone: also the adapter's, of what it could not read."""

    class Machine(EnvStateMachine):
        def make_env(self):
            options = {"terminate_on_parse_error": False, "parse_error_message": "What?"}
            return EnvFromMessageEnv(load_renderer("tiny", "qwen3_instruct"), Counter(), **options)

        def make_model(self):
            return 0

        @turn(is_readable=st.booleans())
        def speak(self, is_readable):
            self.model += is_readable
            self.act("Hi" if is_readable else [5])
            assert self.shown() == (str(self.model) if is_readable else "What?")

    run(Machine)


class Rewrites(Counter):
    def history(self):
        return self.messages[-2:]


class NeverEnds(Counter):
    async def step(self, message):
        result = await super().step(message)
        return MessageStepResult(result.reward, False, result.next_messages)


class Earns(Counter):
    def reward(self):
        return math.nan


class Breaks(Counter):
    def reward(self):
        return {}[self.turns]


class AnswersNothing(Counter):
    async def step(self, message):
        await super().step(message)


class Hangs(Counter):
    async def step(self, message):
        await anyio.sleep_forever()


BROKEN = {
    GoesOn: (AssertionError, r"GoesOn\.step: expected an error after the end .* got StepResult"),
    Rewrites: (AssertionError, r"Rewrites\.step: expected an observation that begins with the"),
    NeverEnds: (AssertionError, r"NeverEnds\.step: expected the episode to end within 3 turns"),
    Earns: (RequestError, "finite"),
    Breaks: (KeyError, "1"),
    AnswersNothing: (AssertionError, "expected a MessageStepResult; got NoneType"),
    Hangs: (TimeoutError, "Hangs: expected an answer within 600 seconds; got none"),
}


@pytest.mark.parametrize("env", BROKEN, ids=lambda env: env.__name__)
def test_what_no_environment_may_do_is_found_without_a_model(env, backend):
    class Silent(EnvStateMachine):
        max_turns = 3

        def make_env(self):
            return env()

        @turn()
        def speak(self):
            self.act([5, 0] if env is GoesOn else "Hi")

    Silent.backend = backend
    error, text = BROKEN[env]
    with pytest.raises(error, match=text):
        find(Silent)


def test_history_may_be_rewritten_by_one_that_says_so():
    class Declared(Rewrites):
        rewrites_history = True

    run(machine(Declared))


def test_text_messages_and_tokens_are_the_same_action(backend):
    """An environment of tokens, and the three ways to write in it."""
    renderer = load_renderer("tiny", "qwen3_instruct")
    written = []

    class Notes(Counter):
        async def step(self, message):
            written.append(message["content"])
            return await super().step(message)

    class Tokens(EnvStateMachine):
        max_turns = 3

        def make_env(self):
            return EnvFromMessageEnv(renderer, Notes())

        @turn(way=st.integers(0, 2))
        def speak(self, way):
            tokens = renderer.tokenizer.encode("Hi<|im_end|>", add_special_tokens=False)
            actions = ["Hi", {"role": "assistant", "content": "Hi"}, tokens]
            result = self.act(actions[way])
            assert isinstance(result, StepResult)
            assert result.reward == len(self.members[0].results)
            assert self.shown() == str(result.reward)[:1]

    Tokens.backend = backend
    run(Tokens)
    assert set(written) == {"Hi"}


class SameTask(Counter):
    """Must be called in one task of one loop, as in a run."""

    def __init__(self):
        super().__init__()
        self.tasks = set()

    async def initial_observation(self):
        self.look()
        self.scope = anyio.CancelScope()
        self.scope.__enter__()
        return await super().initial_observation()

    async def step(self, message):
        self.look()
        result = await super().step(message)
        if result.episode_done:
            self.scope.__exit__(None, None, None)
        return result

    def look(self):
        is_trio = sniffio.current_async_library() == "trio"
        task = trio.lowlevel.current_task() if is_trio else asyncio.current_task()
        self.tasks.add(task)
        assert len(self.tasks) == 1


def test_an_episode_lives_in_one_task_of_one_loop(backend):
    before = threading.active_count()
    run(machine(SameTask, backend=backend))
    assert threading.active_count() <= before + 1  # trio keeps a thread for signals, for a while


def test_rules_may_run_loops_of_their_own(backend):
    class Nested(EnvStateMachine):
        def make_env(self):
            return SameTask()

        @turn()
        def run_another(self):
            run_in_virtual_time(anyio.sleep, 1, backend="trio")
            run_in_virtual_time(anyio.sleep, 1, backend="asyncio")
            self.act("up")

    Nested.backend = backend
    run(Nested)


@pytest.mark.parametrize("around", ["trio", "asyncio"])
def test_a_machine_may_be_run_inside_a_loop(backend, around):
    async def main():
        run(machine(SameTask, backend=backend))
        await anyio.sleep(1)

    run_in_virtual_time(main, backend=around)


class Draws(Counter):
    async def initial_observation(self):
        self.messages[0]["content"] = str(current_rng().randint(0, 10**9))
        return list(self.messages)


def test_the_seed_decides_what_the_environment_draws():
    drawn = {}

    class Seeded(EnvStateMachine):
        def make_env(self):
            return Draws()

        def make_model(self):
            drawn.setdefault(self.seed, set()).add(self.shown())

        @rule()
        def nothing(self):
            pass

    run(Seeded)
    run(Seeded)
    assert len(drawn) > 2
    assert all(len(numbers) == 1 for numbers in drawn.values())
    assert len(set.union(*drawn.values())) == len(drawn)


def test_who_cannot_act_is_told_so():
    class Hasty(CounterMachine):
        @turn()
        def speak(self):
            for _ in range(4):
                self.act("Hi")

    with pytest.raises(RequestError, match=r"Hasty\.act: expected a member who can act: \(\)"):
        find(Hasty)


def test_a_machine_without_an_environment_is_told_what_to_write():
    class Empty(EnvStateMachine):
        @turn()
        def nothing(self):
            pass

    with pytest.raises(NotImplementedError, match="Empty: expected make_env or make_builder"):
        run(Empty)
