import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.errors import RequestError, ShapeError
from tinker_rl.types import decode, encode

tokens = st.lists(st.integers(0, 2**31), max_size=6)
logprobs = st.none() | st.lists(st.floats(max_value=0.0), max_size=6)


@given(tokens=tokens, logprobs=logprobs, stop=st.sampled_from(["stop", "length"]))
def test_there_is_one_logprob_per_token_or_none_at_all(tokens, logprobs, stop):
    if logprobs is not None and len(logprobs) != len(tokens):
        with pytest.raises(ShapeError, match=f"expected {len(tokens)} values"):
            TokensWithLogprobs(tokens, logprobs, stop)
        return
    action = TokensWithLogprobs(tokens, logprobs, stop, 3)
    assert decode(encode(action), TokensWithLogprobs) == action
    if logprobs is None:
        with pytest.raises(RequestError, match="none from this completer"):
            _ = action.logprobs
    else:
        assert action.logprobs == logprobs


def test_an_action_ends_by_itself_and_has_no_version_unless_said_otherwise():
    action = TokensWithLogprobs([1], None)
    assert (action.stop_reason, action.policy_version) == ("stop", None)
