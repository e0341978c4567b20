"""Outcomes survive the codec that stores and sends them."""

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.envs import StopReason
from tinker_rl.rl.outcomes import (
    Completed,
    DroppedGroup,
    EnvFailure,
    GroupOutcome,
    InfraFailure,
    MemberFailure,
    Outcome,
    RolledOutGroup,
    RolloutTimes,
    Truncated,
)
from tinker_rl.types import decode, encode

texts = st.text(max_size=5)
failures = st.builds(EnvFailure, texts, texts, texts, texts) | st.builds(
    InfraFailure, texts, texts, texts
)
seconds = st.floats(0, 1e6)
times = st.builds(
    RolloutTimes,
    seconds=seconds,
    env_seconds=seconds,
    sample_seconds=seconds,
    longest_env_seconds=seconds,
)
attempts = st.lists(
    st.builds(
        MemberFailure,
        member=st.none() | st.integers(0, 9),
        attempt=st.integers(0, 9),
        failure=failures,
    ),
    max_size=2,
).map(tuple)


@given(data=st.data())
def test_the_outcome_of_an_episode_is_read_back_as_itself(episodes, data):
    trajectory = data.draw(episodes.trajectories())
    reasons = st.sampled_from([reason for reason in StopReason if reason.truncated])
    outcome = data.draw(
        st.one_of(
            st.just(Completed(trajectory)),
            st.builds(Truncated, reasons, st.just(trajectory)),
            failures,
        )
    )
    back = decode(encode(outcome), Outcome)
    assert back == outcome
    assert type(back) is type(outcome)
    assert type(outcome) in get_args(Outcome)


@given(data=st.data())
def test_the_outcome_of_a_group_is_read_back_as_itself(episodes, data):
    counts = st.integers(0, 99)
    rolled_out = st.builds(
        RolledOutGroup,
        group=episodes.groups(max_size=2),
        tags=st.lists(texts, max_size=2).map(tuple),
        num_sampled_tokens=counts,
        cleanup_error=st.none() | texts,
        members=st.none() | st.lists(counts, max_size=2).map(tuple),
        failures=attempts,
        times=times,
    )
    dropped = st.builds(
        DroppedGroup,
        failure=failures,
        member=st.none() | counts,
        num_sampled_tokens=counts,
        failures=attempts,
        times=times,
    )
    outcome = data.draw(rolled_out | dropped)
    assert decode(encode(outcome), GroupOutcome) == outcome
