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


@st.composite
def mixed_actions(draw):
    """Actions that several versions sampled, and the version of each token."""
    spans = tuple(draw(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), max_size=4)))
    versions = [version for version, count in spans for _ in range(count)]
    first = spans[0][0] if spans else draw(st.none() | st.integers(0, 5))
    logprobs = [-1.0] * len(versions) if draw(st.booleans()) else None
    tokens = list(range(len(versions)))
    return TokensWithLogprobs(tokens, logprobs, "length", first, spans), versions


@given(mixed=mixed_actions(), count=st.integers(0, 20))
def test_every_token_has_the_version_of_its_span_also_when_the_action_is_cut(mixed, count):
    action, versions = mixed
    assert action.token_versions == versions
    assert decode(encode(action), TokensWithLogprobs) == action
    cut = action.first(count, "stop")
    assert cut.tokens == action.tokens[:count]
    assert cut.token_versions == versions[:count]
    assert (cut.maybe_logprobs is None) == (action.maybe_logprobs is None)
    assert cut.stop_reason == "stop"


@given(tokens=tokens, version=st.none() | st.integers(0, 5), count=st.integers(0, 8))
def test_without_spans_all_tokens_are_of_the_actions_version(tokens, version, count):
    action = TokensWithLogprobs(tokens, None, policy_version=version)
    assert action.token_versions == [version] * len(tokens)
    assert action.first(count, "length").token_versions == [version] * len(tokens[:count])


@pytest.mark.parametrize(
    ("version", "spans", "message"),
    [
        (1, ((1, 1),), "add up to 2"),
        (1, ((1, 2), (2, 1)), "add up to 2"),
        (1, ((1, 2), (2, 0)), "from 1"),
        (1, ((1, 3), (2, -1)), "from 1"),
        (1, (), "add up to 2"),
        (2, ((1, 1), (2, 1)), "expected 1, the version of the first token; got 2"),
        (None, ((1, 1), (2, 1)), "expected 1, the version of the first token; got None"),
    ],
)
def test_spans_that_do_not_fit_the_tokens_are_refused(version, spans, message):
    with pytest.raises(ShapeError, match=message):
        TokensWithLogprobs([7, 8], None, policy_version=version, version_spans=spans)


def test_an_action_ends_by_itself_and_has_no_version_unless_said_otherwise():
    action = TokensWithLogprobs([1], None)
    assert (action.stop_reason, action.policy_version) == ("stop", None)
