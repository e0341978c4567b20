"""The completers over a small sampler of our own, which counts upwards from the prompt's end."""

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.completers import TinkerMessageCompleter, TinkerTokenCompleter
from tinker_rl.errors import EngineError, PromptTooLongError, RequestError
from tinker_rl.futures import Promise
from tinker_rl.renderers import get_renderer
from tinker_rl.tokenizers import get_tokenizer
from tinker_rl.types import ModelInput, SampledSequence, SampleResponse


class CountingSampler:
    """Continues any prompt by n+1, n+2, ... up to the limit, through real futures."""

    def __init__(self, answer=None, error=None):
        self.requests = []
        self.answer = answer
        self.error = error
        self.cancelled = 0

    def sample(self, prompt, num_samples, sampling_params):
        self.requests.append((prompt, num_samples, sampling_params))
        promise = Promise(on_abandon=self.cancel)
        if self.error is not None:
            promise.fail(self.error)
        elif self.answer is None or self.answer:
            last, count = prompt.to_ints()[-1], sampling_params.max_tokens
            tokens = self.answer or range(last + 1, last + 1 + count)
            sequence = SampledSequence(
                stop_reason="stop" if self.answer else "length",
                tokens_np=np.array(tokens, np.int32),
                logprobs_np=np.full(len(tokens), -0.5, np.float32),
            )
            promise.resolve(SampleResponse(sequences=[sequence]))
        return promise.future

    def cancel(self):
        self.cancelled += 1


@given(
    prompt=st.lists(st.integers(0, 99), min_size=1, max_size=20),
    limit=st.integers(1, 20),
    window=st.none() | st.integers(1, 30),
    call_limit=st.none() | st.integers(1, 20),
)
def test_the_tightest_limit_holds(prompt, limit, window, call_limit):
    sampler = CountingSampler()
    completer = TinkerTokenCompleter(sampler, limit, context_window=window, policy_version=4)

    async def complete():
        return await completer(ModelInput.from_ints(prompt), [7], max_tokens=call_limit)

    if window is not None and len(prompt) >= window:
        with pytest.raises(PromptTooLongError, match=f"got one of {len(prompt)}"):
            anyio.run(complete, backend="trio")
        assert sampler.requests == []
        return
    answer = anyio.run(complete, backend="trio")
    room = min(limit, call_limit or limit, (window or 99) - len(prompt))
    assert answer.tokens == list(range(prompt[-1] + 1, prompt[-1] + 1 + room))
    assert answer.logprobs == [-0.5] * room
    assert (answer.stop_reason, answer.policy_version) == ("length", 4)


def test_what_is_asked_of_the_client_is_what_was_set(backend):
    sampler = CountingSampler()
    completer = TinkerTokenCompleter(sampler, 5, temperature=0.5)
    prompt = ModelInput.from_ints([1])

    async def complete():
        await completer(prompt, ["\n", "User:"])

    anyio.run(complete, backend=backend)
    ((asked, num_samples, params),) = sampler.requests
    assert (asked, num_samples) == (prompt, 1)
    assert (params.max_tokens, params.stop, params.temperature) == (5, ["\n", "User:"], 0.5)


def test_an_error_of_the_client_reaches_the_caller(backend):
    completer = TinkerTokenCompleter(CountingSampler(error=EngineError("on fire")), 5)

    async def complete():
        await completer(ModelInput.from_ints([1]), [])

    with pytest.raises(EngineError, match="on fire"):
        anyio.run(complete, backend=backend)


def test_a_cancelled_completion_is_cancelled_in_the_sampler(backend):
    sampler = CountingSampler(answer=[])
    completer = TinkerTokenCompleter(sampler, 5)

    async def complete():
        with anyio.move_on_after(0.01) as scope:
            await completer(ModelInput.from_ints([1]), [])
        assert scope.cancelled_caught

    anyio.run(complete, backend=backend)
    assert sampler.cancelled == 1


@pytest.mark.parametrize("max_tokens", [0, -1])
def test_no_room_for_an_answer_is_refused_at_once(max_tokens):
    with pytest.raises(RequestError, match=f"1 or more; got {max_tokens}"):
        TinkerTokenCompleter(CountingSampler(), max_tokens)


def test_a_conversation_is_answered_in_the_models_chat_format(backend):
    tokenizer = get_tokenizer("tiny")
    renderer = get_renderer("qwen3_instruct", tokenizer)
    sampler = CountingSampler(answer=tokenizer.encode("It is 4.<|im_end|>"))
    completer = TinkerMessageCompleter(sampler, renderer, 20, temperature=0.0)
    question = [{"role": "user", "content": "2+2=?"}]
    answer = anyio.run(completer, question, backend=backend)
    assert answer == {"role": "assistant", "content": "It is 4."}
    ((prompt, _, params),) = sampler.requests
    assert prompt == renderer.build_generation_prompt(question)
    assert params.stop == renderer.get_stop_sequences()
    assert (params.max_tokens, params.temperature) == (20, 0.0)


def test_a_conversation_may_be_stopped_elsewhere_and_must_fit(backend):
    renderer = get_renderer("qwen3_instruct", get_tokenizer("tiny"))
    sampler = CountingSampler(answer=[5])
    question = [{"role": "user", "content": "2+2=?"}]
    anyio.run(TinkerMessageCompleter(sampler, renderer, 20, ["4"]), question, backend=backend)
    assert sampler.requests[0][2].stop == ["4"]
    small = TinkerMessageCompleter(sampler, renderer, 20, context_window=3)
    with pytest.raises(PromptTooLongError):
        anyio.run(small, question, backend=backend)
