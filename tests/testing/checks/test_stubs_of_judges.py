"""Environments that ask a judge, with the kit's own completers in its place."""

import contextlib
import threading

import anyio
import pytest

from tinker_rl.completers import MessageCompleter, ScriptedMessageCompleter
from tinker_rl.envs import (
    EnvFromMessageEnv,
    EnvGroupBuilder,
    MessageEnv,
    MessageStepResult,
    load_renderer,
)
from tinker_rl.errors import CompleterError
from tinker_rl.testing import (
    EnvCheckError,
    FailingMessageCompleter,
    FakeJudge,
    FlakyMessageCompleter,
    check_env,
)

RENDERER = load_renderer("tiny", "qwen3_instruct")


class Judged(MessageEnv):
    """Two turns, each of which is paid as its judge says."""

    def __init__(self, judge):
        self.judge = judge
        self.left = 2
        self.messages = [{"role": "user", "content": "Say something."}]

    async def initial_observation(self):
        return list(self.messages)

    async def step(self, message):
        self.left -= 1
        self.messages += [message, {"role": "user", "content": "And?"}]
        reward = await self.reward(message)
        return MessageStepResult(reward, self.left == 0, list(self.messages))

    async def reward(self, message):
        return float((await self.judge([message]))["content"] == "yes")


class Builder(EnvGroupBuilder):
    """Its judge rewards the group, too."""

    env = Judged

    def __init__(self, judge, also=None):
        self.judge = judge
        self.also = also

    async def make_envs(self):
        return [EnvFromMessageEnv(RENDERER, self.env(self.judge)) for _ in range(2)]

    async def compute_group_rewards(self, trajectories, envs):
        answer = await self.judge([{"role": "user", "content": "Well?"}])
        return [(float(answer["content"] == "yes"), {})] * len(envs)


def says_yes():
    return ScriptedMessageCompleter(lambda messages: "yes")


def found(builder, **options):
    with pytest.raises(EnvCheckError) as caught:
        check_env(builder, max_examples=2, **options)
    return caught.value


def test_a_stub_that_does_not_pickle_is_excused_as_a_client_is():
    report = check_env(lambda: Builder(says_yes()), max_examples=2)
    assert report.checked["pickles"] == 1
    flaky = FlakyMessageCompleter(says_yes(), 0.0)
    check_env(Builder(flaky, also=[FakeJudge(lambda prompt, a, b: 0.0)]), max_examples=2)


def test_what_else_does_not_pickle_is_found_beside_a_stub():
    assert found(lambda: Builder(says_yes(), also=lambda: 0)).property == "pickles"

    class Own(MessageCompleter):
        def __init__(self):
            self.lock = threading.Lock()

        async def __call__(self, messages):
            return {"role": "assistant", "content": "yes"}

    assert found(lambda: Builder(Own())).property == "pickles"


class InGroup(Judged):
    async def reward(self, message):
        answers = []

        async def ask():
            answers.append(await self.judge([message]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
        return float(answers[0]["content"] == "yes")


class SaysSo(Judged):
    async def reward(self, message):
        try:
            return await super().reward(message)
        except (CompleterError, OSError):
            raise RuntimeError("the judge does not answer")  # noqa: B904 (as many write it)


@pytest.mark.parametrize("env", [Judged, InGroup, SaysSo], ids=lambda env: env.__name__)
@pytest.mark.parametrize("error", [None, OSError])
@pytest.mark.parametrize("makes_new", [True, False], ids=["new", "kept"])
def test_faults_on_purpose_are_let_through(env, error, makes_new, monkeypatch):
    monkeypatch.setattr(Builder, "env", env)

    def make():
        return Builder(FlakyMessageCompleter(says_yes(), 0.3, error=error))

    report = check_env(make if makes_new else make(), max_examples=4)
    assert any("fault that a completer raised on purpose" in note for note in report.notes)


def test_no_note_is_made_where_nothing_failed():
    report = check_env(lambda: Builder(says_yes()), max_examples=2)
    assert not any("on purpose" in note for note in report.notes)


def test_the_groups_judge_and_the_first_observation_may_fail_on_purpose(monkeypatch):
    class AsksFirst(Judged):
        async def initial_observation(self):
            await self.judge(self.messages)
            return list(self.messages)

    check_env(lambda: Builder(FailingMessageCompleter(says_yes(), at=0)), max_examples=2)
    monkeypatch.setattr(Builder, "env", AsksFirst)
    check_env(lambda: Builder(FailingMessageCompleter(says_yes(), at=0)), max_examples=2)


def test_an_error_of_its_own_after_a_fault_is_found(monkeypatch):
    class Forgets(Judged):
        async def reward(self, message):
            answer = None
            with contextlib.suppress(CompleterError):
                answer = await self.judge([message])
            return float(answer["content"] == "yes")

    monkeypatch.setattr(Builder, "env", Forgets)
    error = found(lambda: Builder(FlakyMessageCompleter(says_yes(), 0.5)))
    assert error.property == "answers_any_action"
    assert "TypeError" in error.finding
