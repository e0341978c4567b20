from functools import partial

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.envs import EnvFromMessageEnv, MessageEnv, MessageStepResult, StopReason
from tinker_rl.errors import ConfigError, RequestError
from tinker_rl.renderers import get_renderer
from tinker_rl.types import ModelInput

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)


class CountingEnv(MessageEnv):
    """Answers every message with how many there were, and ends after `turns` of them."""

    def __init__(self, turns, forget=False, replies=("one", "two", "three", "four")):
        self.turns = turns
        self.forget = forget
        self.replies = replies
        self.messages = [{"role": "user", "content": "zero"}]
        self.heard = []

    async def initial_observation(self):
        return list(self.messages)

    async def step(self, message):
        self.heard.append(message["content"])
        turn = len(self.heard)
        self.messages += [message, {"role": "user", "content": self.replies[turn - 1]}]
        if self.forget:
            self.messages = self.messages[-1:]
        return MessageStepResult(
            1.0, turn == self.turns, list(self.messages), {"turn": turn}, {"heard": self.heard[-1]}
        )


async def play(env, actions, extra=None):
    """The observations of an episode, the last one included, and its steps."""
    observation, _ = await env.initial_observation()
    observations, results = [observation], []
    for action in actions:
        result = await env.step(action, extra=extra)
        results.append(result)
        observations.append(result.next_observation)
        if result.episode_done:
            break
    return observations, results


@given(answers=st.lists(TEXT, min_size=1, max_size=4))
def test_each_observation_extends_the_last_by_the_action_and_what_was_said(
    renderer, encode, answers
):
    env = EnvFromMessageEnv(renderer, CountingEnv(len(answers)))
    # Spelled letter by letter, as a policy may and a tokenizer would not.
    actions = [[t for letter in answer for t in encode(letter, "")] for answer in answers]
    actions = [action + encode("") for action in actions]
    observations, results = anyio.run(play, env, actions, backend="trio")
    assert [result.episode_done for result in results] == [False] * (len(answers) - 1) + [True]
    for before, action, after in zip(observations, actions, observations[1:], strict=False):
        start = before.to_ints() + action
        assert after.to_ints()[: len(start)] == start
        assert len(after.to_ints()) > len(start)


@given(answers=st.lists(st.sampled_from(["a", "b c", "17+25=42"]), min_size=1, max_size=4))
def test_observations_are_the_conversation_in_the_models_chat_format(renderer, encode, answers):
    inner = CountingEnv(len(answers))
    env = EnvFromMessageEnv(renderer, inner)
    observations, results = anyio.run(
        play, env, [encode(answer) for answer in answers], backend="trio"
    )
    assert inner.heard == answers
    assert observations[-1] == renderer.build_generation_prompt(inner.messages)
    assert [result.metrics["turn"] for result in results] == list(range(1, len(answers) + 1))
    assert results[-1].terminated


def test_a_conversation_that_was_rewritten_is_rendered_anew(renderer, encode, backend):
    env = EnvFromMessageEnv(renderer, CountingEnv(3, forget=True))
    observations, _ = anyio.run(play, env, [encode("x")] * 2, backend=backend)
    question = [{"role": "user", "content": "two"}]
    assert observations[2] == renderer.build_generation_prompt(question)


def test_a_format_that_cannot_be_extended_is_rendered_anew(renderer, backend):
    base = get_renderer("role_colon", renderer.tokenizer)
    inner = CountingEnv(2)
    env = EnvFromMessageEnv(base, inner)
    action = renderer.tokenizer.encode(" x\n\nUser:", add_special_tokens=False)
    observations, results = anyio.run(play, env, [action], backend=backend)
    assert not results[0].episode_done
    assert inner.heard == ["x"]
    assert observations[1] == base.build_generation_prompt(inner.messages)


def test_the_end_of_a_conversation_is_shown_as_it_was_said(renderer, encode, backend):
    class LastWord(MessageEnv):
        async def initial_observation(self):
            return [{"role": "user", "content": "hi"}]

        async def step(self, message):
            return MessageStepResult(
                0.5,
                True,
                [*await self.initial_observation(), message],
                stop_reason=StopReason.MAX_TURNS,
            )

    env = EnvFromMessageEnv(renderer, LastWord())
    action = encode("bye")
    observations, (result,) = anyio.run(play, env, [action], backend=backend)
    assert observations[1].to_ints() == observations[0].to_ints() + action
    assert (result.reward, result.stop_reason) == (0.5, StopReason.MAX_TURNS)


def test_an_environment_may_end_without_a_conversation(renderer, encode, backend):
    class Silent(CountingEnv):
        async def step(self, message):
            return MessageStepResult(0.0, True, [])

    _, (result,) = anyio.run(
        play, EnvFromMessageEnv(renderer, Silent(1)), [encode("x")], backend=backend
    )
    assert result.next_observation == ModelInput.empty()


def test_a_message_that_cannot_be_read_ends_the_episode_unheard(renderer, encode, backend):
    inner = CountingEnv(2)
    env = EnvFromMessageEnv(renderer, inner, failed_parse_reward=-0.5)
    _, (result,) = anyio.run(play, env, [encode("x", "")], backend=backend)
    assert (result.reward, result.stop_reason) == (-0.5, StopReason.PARSE_ERROR)
    assert result.metrics == {"parse_error": 1.0}
    assert inner.heard == []


def test_a_message_that_cannot_be_read_may_be_tried_again(renderer, encode, backend):
    inner = CountingEnv(1)
    env = EnvFromMessageEnv(renderer, inner, terminate_on_parse_error=False)
    observations, results = anyio.run(play, env, [encode("x", ""), encode("y")], backend=backend)
    assert [result.episode_done for result in results] == [False, True]
    assert observations[1] == observations[0]
    assert inner.heard == ["y"]
    assert [result.metrics["parse_error"] for result in results] == [1.0, 0.0]


TOLD = {"role": "user", "content": "I cannot read that."}
spoken = st.lists(st.tuples(TEXT, st.booleans()), min_size=1, max_size=5)


@given(said=spoken)
def test_a_policy_that_is_told_keeps_every_token_and_goes_on(renderer, encode, said):
    readable = [text for text, is_readable in said if is_readable]
    inner = CountingEnv(len(readable) + 1, replies=["reply"] * 9)
    env = EnvFromMessageEnv(
        renderer,
        inner,
        failed_parse_reward=-0.5,
        terminate_on_parse_error=False,
        parse_error_message=TOLD["content"],
    )
    actions = [encode(text) if is_readable else encode(text, "") for text, is_readable in said]
    observations, results = anyio.run(play, env, actions, backend="trio")
    assert inner.heard == readable
    assert [result.reward for result in results] == [1.0 if clean else -0.5 for _, clean in said]
    shown = [{"role": "user", "content": "zero"}]
    for (text, is_readable), before, action, after in zip(
        said, observations, actions, observations[1:], strict=False
    ):
        start = before.to_ints() + action
        assert after.to_ints()[: len(start)] == start
        shown.append({"role": "assistant", "content": text})
        shown.append({"role": "user", "content": "reply"} if is_readable else TOLD)
        text_of = renderer.tokenizer.decode
        assert text_of(after.to_ints()) == text_of(
            renderer.build_generation_prompt(shown).to_ints()
        )


def test_what_was_told_is_rendered_where_the_format_cannot_be_extended(renderer, backend):
    base = get_renderer("role_colon", renderer.tokenizer)
    env = EnvFromMessageEnv(
        base,
        CountingEnv(2),
        terminate_on_parse_error=False,
        parse_error_message=TOLD["content"],
    )
    actions = [
        renderer.tokenizer.encode(text, add_special_tokens=False) for text in (" x", " y\n\nUser:")
    ]
    observations, _ = anyio.run(play, env, actions, backend=backend)
    shown = [{"role": "user", "content": "zero"}, {"role": "assistant", "content": "x"}, TOLD]
    assert observations[1] == base.build_generation_prompt(shown)
    shown += [{"role": "assistant", "content": "y"}, {"role": "user", "content": "one"}]
    assert observations[2] == base.build_generation_prompt(shown)


def test_a_policy_that_is_told_too_much_runs_out_of_context(renderer, encode, backend):
    env = EnvFromMessageEnv(
        renderer,
        CountingEnv(1),
        terminate_on_parse_error=False,
        parse_error_message="No. " * 50,
        max_trajectory_tokens=100,
    )
    _, (result,) = anyio.run(play, env, [encode("x", "")], backend=backend)
    assert (result.reward, result.stop_reason) == (-1.0, StopReason.CONTEXT_OVERFLOW)


def test_an_episode_does_not_both_end_and_go_on(renderer):
    with pytest.raises(ConfigError, match="terminate_on_parse_error=False to tell the policy"):
        EnvFromMessageEnv(renderer, CountingEnv(1), parse_error_message="again")


def test_a_message_that_was_cut_off_truncates_the_episode(renderer, encode, backend):
    inner = CountingEnv(2)
    env = EnvFromMessageEnv(renderer, inner, context_overflow_reward=-0.25)
    _, (result,) = anyio.run(
        partial(play, extra={"stop_reason": "length"}), env, [encode("x")], backend=backend
    )
    assert (result.reward, result.stop_reason) == (-0.25, StopReason.MAX_TOKENS)
    assert result.truncated
    assert result.metrics == {"parse_error": 0.0}
    assert inner.heard == []


class HearingEnv(CountingEnv):
    """Keeps what it is told of its end."""

    def __init__(self, turns=9):
        super().__init__(turns)
        self.told = []

    async def on_early_end(self, stop_reason):
        self.told.append(stop_reason)


@pytest.mark.parametrize(
    ("reason", "end", "sampling", "options"),
    [
        (StopReason.MAX_TOKENS, "", "length", {}),
        (StopReason.PARSE_ERROR, "", "stop", {}),
        (StopReason.CONTEXT_OVERFLOW, "<|im_end|>", "stop", {"max_trajectory_tokens": 30}),
        (
            StopReason.CONTEXT_OVERFLOW,
            "",
            "stop",
            {
                "max_trajectory_tokens": 30,
                "terminate_on_parse_error": False,
                "parse_error_message": "Once more, please, and come to an end this time.",
            },
        ),
    ],
)
def test_an_environment_hears_once_of_an_end_that_is_the_adapters(
    renderer, encode, backend, reason, end, sampling, options
):
    inner = HearingEnv()
    env = EnvFromMessageEnv(renderer, inner, **options)
    extra = {"stop_reason": sampling}
    _, results = anyio.run(play, env, [encode("x" * 9, end)] * 4, extra, backend=backend)
    assert results[-1].stop_reason == reason
    assert inner.told == [reason]
    assert inner.heard == (["x" * 9] if end else [])


def test_an_environment_that_ends_by_itself_is_told_nothing(renderer, encode, backend):
    inner = HearingEnv(turns=1)
    env = EnvFromMessageEnv(renderer, inner, max_trajectory_tokens=1)
    _, (result,) = anyio.run(play, env, [encode("x")], backend=backend)
    assert result.terminated
    assert inner.told == []


def test_what_a_run_has_ended_does_not_go_on(renderer, encode, backend):
    async def main():
        inner = HearingEnv()
        env = EnvFromMessageEnv(renderer, inner)
        await env.initial_observation()
        await env.step(encode("x"))
        await env.on_early_end(StopReason.MAX_TURNS)
        assert inner.told == [StopReason.MAX_TURNS]
        with pytest.raises(RequestError, match="no action after the end"):
            await env.step(encode("y"))

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("room", [0, 1])
def test_an_episode_is_truncated_once_there_is_no_room_for_an_action(
    renderer, encode, backend, room
):
    actions = [encode("x"), encode("y")]
    free = EnvFromMessageEnv(renderer, CountingEnv(3))
    (_, second, _), _ = anyio.run(play, free, actions, backend=backend)
    env = EnvFromMessageEnv(
        renderer,
        CountingEnv(3),
        max_trajectory_tokens=second.length + 9 + room,
        max_generation_tokens=10,
    )
    _, results = anyio.run(play, env, actions, backend=backend)
    if room:
        assert results[0].stop_reason is None
    else:
        assert results[0].stop_reason is StopReason.CONTEXT_OVERFLOW
        assert results[0].reward == -0.1
        assert results[0].metrics == {"parse_error": 0.0, "turn": 1}
        assert results[0].logs == {"heard": "x"}
    assert results[-1].stop_reason is StopReason.CONTEXT_OVERFLOW


def test_the_last_step_keeps_its_reward_however_long_the_episode_was(renderer, encode, backend):
    env = EnvFromMessageEnv(renderer, CountingEnv(1), max_trajectory_tokens=1)
    _, (result,) = anyio.run(play, env, [encode("x")], backend=backend)
    assert (result.reward, result.stop_reason) == (1.0, StopReason.COMPLETED)


def test_an_environment_is_played_from_its_beginning(renderer, encode, backend):
    env = EnvFromMessageEnv(renderer, CountingEnv(1))
    with pytest.raises(RequestError, match="initial_observation first"):
        anyio.run(env.step, encode("x"), backend=backend)


def test_what_has_ended_does_not_go_on_and_may_begin_again(renderer, encode, backend):
    env = EnvFromMessageEnv(renderer, CountingEnv(1))
    anyio.run(play, env, [encode("x")], backend=backend)
    with pytest.raises(RequestError, match="no action after the end of the episode"):
        anyio.run(env.step, encode("x"), backend=backend)
    assert anyio.run(env.initial_observation, backend=backend)[0].length > 0


def test_it_says_after_each_step_whether_history_may_be_another(renderer, encode, backend):
    class Forgets(CountingEnv):
        rewrites_history = True

    again = EnvFromMessageEnv(renderer, CountingEnv(3), terminate_on_parse_error=False)
    for env, declared in (
        (again, [True, False]),
        (EnvFromMessageEnv(renderer, Forgets(3)), [True]),
    ):
        said = []
        anyio.run(env.initial_observation, backend=backend)
        for end in ("", "<|im_end|>")[-len(declared) :]:
            anyio.run(env.step, encode("x", end), backend=backend)
            said.append(env.rewrites_history)
        assert said == declared


def test_a_format_that_drops_reasoning_from_history_rewrites_it(renderer, encode):
    drops = get_renderer("qwen3", renderer.tokenizer)
    env = EnvFromMessageEnv(drops, CountingEnv(2))
    anyio.run(play, env, [encode("x")])
    assert env.rewrites_history
