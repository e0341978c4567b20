import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl import ModelInput, SamplingParams
from tinker_rl.engine.samplers.base import StopRule, check_sample, stop_rule
from tinker_rl.errors import PromptTooLongError, RequestError, ShapeError
from tinker_rl.requests import Sample

EOS = (3, 9)


def request(prompt=(1, 2), num_samples=1, params=None, **fields):
    return Sample(
        sampler_id="s",
        prompt=ModelInput.from_ints(prompt),
        num_samples=num_samples,
        sampling_params=params or SamplingParams(),
        **fields,
    )


@pytest.mark.parametrize(
    ("stop", "rule"),
    [
        (None, StopRule(token_ids=EOS)),
        ([], StopRule()),
        ((), StopRule()),
        ("\n", StopRule(strings=("\n",))),
        (["a", "b"], StopRule(strings=("a", "b"))),
        ([5, 6], StopRule(token_ids=(5, 6))),  # and not at end-of-sequence
    ],
)
def test_what_is_given_replaces_end_of_sequence(stop, rule):
    assert stop_rule(stop, EOS) == rule


@pytest.mark.parametrize("stop", ["", [""], ["a", 5], [5, "a"], [1.5], [None], ["a", None]])
def test_other_stops_are_refused(stop):
    with pytest.raises(RequestError, match=r"SamplingParams\.stop: expected"):
        stop_rule(stop, EOS)


@given(length=st.integers(1, 60), limit=st.none() | st.integers(1, 100))
def test_prompt_and_answer_share_the_context(length, limit):
    ask = request([1] * length, params=SamplingParams(max_tokens=limit))
    if length >= 50:
        with pytest.raises(PromptTooLongError, match=f"at most 49 tokens.*got {length}"):
            check_sample(ask, 10, 50)
    else:
        most = check_sample(ask, 10, 50)
        assert most == min(50 - length, limit or 50)


@pytest.mark.parametrize("token", [-1, 10, 2**40])
def test_a_prompt_token_outside_the_vocabulary_is_refused(token):
    with pytest.raises(RequestError, match=f"token ids from 0 to 9; got {token} at position 1"):
        check_sample(request([0, token]), 10, 50)


def test_an_empty_prompt_is_refused():
    with pytest.raises(ShapeError):
        check_sample(request([]), 10, 50)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", 0),
        ("top_k", -2),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", math.nan),
    ],
)
def test_a_setting_out_of_range_is_refused(field, value):
    with pytest.raises(RequestError, match=rf"SamplingParams\.{field}: expected .*; got "):
        check_sample(request(params=SamplingParams(**{field: value})), 10, 50)


@pytest.mark.parametrize(
    "fields",
    [
        {"num_samples": 0},
        {"topk_prompt_logprobs": -1},
        {"topk_prompt_logprobs": 11},
        {"topk_sample_logprobs": 11},
        {"prompt_logprobs_last_n": 0},
        {"prompt_logprobs_last_n": 2},
    ],
)
def test_a_count_out_of_range_is_refused(fields):
    with pytest.raises(RequestError, match=f"expected {next(iter(fields))}"):
        check_sample(request(**fields), 10, 50)


def test_the_bounds_themselves_are_taken():
    params = SamplingParams(max_tokens=1, temperature=0.0, top_k=1, top_p=1.0)
    fields = {"topk_prompt_logprobs": 10, "topk_sample_logprobs": 10, "prompt_logprobs_last_n": 1}
    assert check_sample(request([0, 9], 1, params, **fields), 10, 50) == 1
    assert check_sample(request([0], 1, params, prompt_logprobs_last_n=1), 10, 2) == 1
