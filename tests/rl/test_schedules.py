"""What the two schedule configs come to, alone and combined."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.errors import ConfigError
from tinker_rl.rl.schedules import (
    AsyncConfig,
    Schedule,
    StreamMinibatchConfig,
    schedule_problems,
)

numbers = st.integers(-1, 8)
asynchronous = st.none() | st.builds(
    AsyncConfig,
    max_steps_off_policy=st.integers(-1, 3),
    groups_per_batch=numbers,
    lag=st.sampled_from(["newest", "fixed", "oldest"]),
    refresh=st.sampled_from(["never", "turn", "publish", "often"]),
    straggler=st.sampled_from(["wait", "mask", "skip"]),
    max_masked_fraction=st.sampled_from([0.0, 0.125, 1.0, 1.5]),
)
streaming = st.none() | st.builds(
    StreamMinibatchConfig, groups_per_batch=numbers, num_minibatches=numbers
)


@given(ahead=asynchronous, stream=streaming, num_substeps=st.integers(1, 3))
def test_whatever_has_no_problem_makes_a_window(ahead, stream, num_substeps):
    if list(schedule_problems(ahead, stream, num_substeps)):
        return
    schedule = Schedule.of(ahead, stream, num_substeps)
    size = schedule.groups_per_batch or 4
    window = schedule.window(size, 3)
    bound = ahead.max_steps_off_policy if ahead else 0
    assert window.num_slots == (bound + 1) * size
    assert schedule.is_off_policy == (bound > 0)
    assert schedule.num_minibatches == (stream.num_minibatches * num_substeps if stream else 1)
    assert size % schedule.num_minibatches == 0
    masks = ahead is not None and ahead.straggler == "mask"
    assert schedule.max_token_age == (bound if masks else None)
    if schedule.keeps_old_versions:
        assert (schedule.lag, schedule.refresh, schedule.straggler) == ("fixed", "never", "wait")
    with pytest.raises(ConfigError, match=f"expected {size + 1}, the dataset's batch size"):
        Schedule(groups_per_batch=size).window(size + 1, 3)


@given(ahead=asynchronous, stream=streaming, num_substeps=st.integers(1, 3))
def test_every_problem_names_its_option_and_says_what_to_do(ahead, stream, num_substeps):
    for problem in schedule_problems(ahead, stream, num_substeps):
        name, rest = problem.split(": ", 1)
        assert name.split(".")[-1] in {
            *("max_steps_off_policy", "groups_per_batch", "lag", "refresh", "straggler"),
            *("max_masked_fraction", "num_minibatches"),
        }
        assert rest.startswith("expected ")
        assert "; got " in rest
        assert problem.endswith(".")


@pytest.mark.parametrize(
    ("ahead", "stream", "names"),
    [
        (AsyncConfig(max_steps_off_policy=-1, groups_per_batch=0), None, ["max_steps_off_policy",
         "groups_per_batch"]),
        (AsyncConfig(max_steps_off_policy=1, groups_per_batch=4, lag="fixed", refresh="turn",
         straggler="mask"), None, ["straggler", "refresh"]),
        (None, StreamMinibatchConfig(groups_per_batch=0, num_minibatches=0), ["groups_per_batch",
         "num_minibatches"]),
        (None, StreamMinibatchConfig(groups_per_batch=4, num_minibatches=3), ["groups_per_batch"]),
        (AsyncConfig(max_steps_off_policy=1, groups_per_batch=2),
         StreamMinibatchConfig(groups_per_batch=4, num_minibatches=2), ["groups_per_batch"]),
    ],
)  # fmt: skip
def test_contradictions_are_found(ahead, stream, names):
    problems = list(schedule_problems(ahead, stream, 1))
    assert [problem.split(": ")[0].split(".")[-1] for problem in problems] == names
