"""The row of a step: what trained, what did not, and where the time went."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.rl.data import assemble_training_data
from tinker_rl.rl.learner import TrainStepOutput
from tinker_rl.rl.outcomes import DroppedGroup, EnvFailure, RolledOutGroup, RolloutTimes
from tinker_rl.rl.step_metrics import batch_metrics

seconds = st.integers(0, 1000)
times = st.builds(
    RolloutTimes,
    seconds=seconds,
    env_seconds=seconds,
    sample_seconds=seconds,
    longest_env_seconds=seconds,
)


def dropped(times=None, num_sampled_tokens=6):
    return DroppedGroup(
        failure=EnvFailure("step", "OSError", "gone"),
        member=0,
        num_sampled_tokens=num_sampled_tokens,
        times=times or RolloutTimes(),
    )


def trained_on(group, shift):
    sequences = [s for found in assemble_training_data([group], [np.ones(2)]) for s in found]
    logprobs = [s.sampler_logprobs_T + np.float32(shift) for s in sequences]
    return TrainStepOutput(
        sequences=tuple(sequences), learner_logprobs_D=tuple(logprobs), metrics={"optim/loss": 3.0}
    )


def test_a_row_tells_what_trained_how_old_it_was_and_what_was_wasted(episodes):
    group = episodes.group_of([1.0, 0.0], version=3)
    rolled_out = RolledOutGroup(group=group, tags=(), num_sampled_tokens=4)
    trained = trained_on(group, np.log(2))
    row = batch_metrics([rolled_out, None, dropped()], trained, 5, max_token_age=1)
    assert row["useful_token_fraction"] == 0.4
    assert row["sampling/tokens"] == 10
    assert row["rollout_errors/groups_skipped"] == row["rollout_errors/OSError"] == 1
    assert row["optim/loss"] == 3.0
    assert row["async/staleness_mean"] == row["async/staleness_max"] == 2
    assert row["async/age_2_frac"] == 1
    assert row["async/tokens_over_age"] == 4
    assert row["optim/ratio_p01"] == pytest.approx(2)
    assert row["optim/ratio_max"] == pytest.approx(2)
    assert row["env/all/reward/total"] == 0.5
    assert "async/tokens_over_age" not in batch_metrics([rolled_out], trained, 5)


@given(times=st.lists(times, min_size=1, max_size=5))
def test_times_are_those_of_all_rollouts_failed_ones_too(times):
    row = batch_metrics([dropped(one) for one in times], None, 0)
    env_seconds = sum(t.env_seconds for t in times)
    sample_seconds = sum(t.sample_seconds for t in times)
    assert row["time/rollout_mean"] == pytest.approx(np.mean([t.seconds for t in times]))
    assert row["time/rollout_max"] == max(t.seconds for t in times)
    assert row["time/env_longest_call"] == max(t.longest_env_seconds for t in times)
    assert row["time/env_fraction"] * (env_seconds + sample_seconds) == pytest.approx(env_seconds)


def test_a_batch_without_groups_has_a_row_all_the_same():
    row = batch_metrics([None, None], None, 0)
    assert row["useful_token_fraction"] == 1.0
    assert not any(name.startswith("time/") for name in row)
