import pickle
from functools import partial

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl import types
from tinker_rl.envs import ProblemEnv, ProblemGroupBuilder, StopReason
from tinker_rl.errors import RequestError
from tinker_rl.types import ModelInput

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=20)


class EchoEnv(ProblemEnv):
    """Say the word, with an exclamation mark at its end."""

    def __init__(self, word, renderer, **settings):
        super().__init__(renderer, **settings)
        self.word = word

    def get_question(self):
        return f"Say {self.word}!"

    def check_answer(self, sample_str):
        if sample_str == "break":
            raise ZeroDivisionError("the grader broke")
        return self.word in sample_str

    def check_format(self, sample_str):
        return sample_str.endswith("!")

    def get_reference_answer(self):
        return self.word


def step(env, action, **extra):
    return anyio.run(partial(env.step, action, extra=extra or None), backend="trio")


@given(right=st.booleans(), shouted=st.booleans(), ended=st.booleans(), format_coef=st.floats(0, 1))
def test_the_reward_is_one_if_right_less_the_price_of_a_wrong_format(
    renderer, encode, right, shouted, ended, format_coef
):
    text = ("yes" if right else "no") + ("!" if shouted else "")
    env = EchoEnv("yes", renderer, format_coef=format_coef)
    result = step(env, encode(text, "<|im_end|>" if ended else ""))
    format_ok = shouted and ended
    assert result.reward == format_coef * (format_ok - 1) + right
    assert result.metrics == {"format": format_ok, "correct": right}


def test_the_price_of_a_wrong_format_is_a_tenth_unless_said_otherwise(renderer, encode):
    assert step(EchoEnv("yes", renderer), encode("yes")).reward == 0.9


@given(word=WORDS)
def test_a_step_tells_what_was_asked_answered_and_right(renderer, encode, word):
    answer = encode(f"It is {word}!")
    result = step(EchoEnv(word, renderer), answer)
    response = renderer.parse_response(answer)[0]["content"]
    assert result.logs == {"problem": f"Say {word}!", "response": response, "reference": word}
    assert result.episode_done
    assert result.next_observation == ModelInput.empty()


def test_the_question_follows_the_prefix_in_the_models_chat_format(renderer, backend):
    prefix = [
        {"role": "user", "content": "Say hi!"},
        {"role": "assistant", "content": "hi!"},
    ]
    env = EchoEnv("yes", renderer, convo_prefix=prefix)
    observation, stop = anyio.run(env.initial_observation, backend=backend)
    question = {"role": "user", "content": "Say yes!"}
    assert observation.to_ints() == renderer.tokenizer.apply_chat_template(
        [*prefix, question], add_generation_prompt=True, return_dict=False
    )
    assert stop == renderer.get_stop_sequences()
    assert prefix[-1]["content"] == "hi!"


def test_an_answer_that_was_cut_off_is_truncated_and_not_in_format(renderer, encode):
    result = step(EchoEnv("yes", renderer), encode("yes!", ""), stop_reason="length")
    assert (result.stop_reason, result.truncated) == (StopReason.MAX_TOKENS, True)
    assert result.metrics == {"format": 0.0, "correct": 1.0}
    whole = step(EchoEnv("yes", renderer), encode("yes!"), stop_reason="stop")
    assert (whole.stop_reason, whole.truncated) == (StopReason.COMPLETED, False)


def test_an_end_of_document_token_is_format_enough_where_that_is_allowed(renderer, encode):
    answer = encode("yes!", "<|endoftext|>")
    assert step(EchoEnv("yes", renderer), answer).metrics["format"] == 0.0
    lenient = EchoEnv("yes", renderer, require_stop_sequence_for_format=False)
    assert step(lenient, answer).metrics["format"] == 1.0


def test_a_grader_that_breaks_is_an_error_and_not_a_reward(renderer, encode):
    with pytest.raises(ZeroDivisionError, match="the grader broke"):
        step(EchoEnv("yes", renderer), encode("break"))


def test_a_step_can_be_stored(renderer, encode):
    result = step(EchoEnv("yes", renderer), encode("yes! \ufffd"))
    assert types.decode(types.encode(result), type(result)) == result


@given(num_envs=st.integers(1, 8))
def test_a_group_asks_each_member_the_same(renderer, num_envs):
    builder = ProblemGroupBuilder(partial(EchoEnv, "yes", renderer), num_envs, "echo")
    envs = anyio.run(builder.make_envs, backend="trio")
    assert len({id(env) for env in envs}) == num_envs
    assert {env.get_question() for env in envs} == {"Say yes!"}
    assert builder.logging_tags() == ["echo"]


def test_a_group_may_travel_to_another_process(renderer, backend):
    builder = ProblemGroupBuilder(partial(EchoEnv, "yes", renderer), 2, "echo")
    travelled = pickle.loads(pickle.dumps(builder))
    env = anyio.run(travelled.make_envs, backend=backend)[0]
    here = anyio.run(builder.make_envs, backend=backend)[0]
    assert anyio.run(env.initial_observation) == anyio.run(here.initial_observation)


def test_what_was_answered_is_not_answered_again(renderer, encode):
    env = EchoEnv("yes", renderer)
    assert step(env, encode("yes!")).reward == 1.0
    with pytest.raises(RequestError, match=r"EchoEnv.step: expected no action after the end"):
        step(env, encode("yes!"))
    anyio.run(env.initial_observation)
    assert step(env, encode("no")).reward == -0.1
