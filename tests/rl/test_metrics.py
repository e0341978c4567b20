import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.envs import StopReason, Trajectory, TrajectoryGroup, Transition
from tinker_rl.errors import ShapeError
from tinker_rl.rl.data import assemble_training_data
from tinker_rl.rl.metrics import (
    compute_kl_sample_train,
    compute_ratio_quantiles,
    compute_staleness_metrics,
    compute_trajectory_metrics,
    count_tokens_over_age,
    dict_mean,
    useful_token_fraction,
)
from tinker_rl.types import ModelInput


def sequences_of(groups):
    advantages = [np.ones(len(group.trajectories_G)) for group in groups]
    return [s for group in assemble_training_data(groups, advantages) for s in group]


def transitions_of(groups):
    return [t for g in groups for trajectory in g.trajectories_G for t in trajectory.transitions]


@given(data=st.data())
def test_distance_is_that_of_the_action_tokens_alone(episodes, data):
    groups = data.draw(st.lists(episodes.groups(max_size=2), max_size=2))
    sequences = sequences_of(groups)
    seed = data.draw(st.integers(0, 99))
    learner = [np.random.default_rng(seed).normal(-2, 1, s.loss_mask_T.shape) for s in sequences]
    metrics = compute_kl_sample_train(sequences, [x.astype(np.float32) for x in learner])
    pairs = [
        (float(q), float(np.float32(p)))
        for sequence, logprobs in zip(sequences, learner, strict=True)
        for q, p, trains in zip(
            sequence.sampler_logprobs_T, logprobs, sequence.loss_mask_T, strict=True
        )
        if trains
    ]
    assert len(pairs) == sum(len(t.ac.tokens) for t in transitions_of(groups))
    if not pairs:
        assert metrics == {}
        return
    v1 = math.fsum(q - p for q, p in pairs) / len(pairs)
    v2 = 0.5 * math.fsum((q - p) ** 2 for q, p in pairs) / len(pairs)
    entropy = -math.fsum(q for q, _ in pairs) / len(pairs)
    assert metrics["optim/kl_sample_train_v1"] == pytest.approx(v1, abs=1e-6)
    assert metrics["optim/kl_sample_train_v2"] == pytest.approx(v2, abs=1e-6)
    assert metrics["optim/entropy"] == pytest.approx(entropy, abs=1e-5)
    ratios = [math.exp(p - q) for q, p in pairs]
    quantiles = compute_ratio_quantiles(sequences, [x.astype(np.float32) for x in learner])
    names = ["p01", "p10", "p50", "p90", "p99", "max"]
    assert list(quantiles) == [f"optim/ratio_{name}" for name in names]
    assert quantiles["optim/ratio_max"] == pytest.approx(max(ratios))
    assert quantiles["optim/ratio_p50"] == pytest.approx(statistics.median(ratios))
    in_order = list(quantiles.values())
    assert in_order == sorted(in_order)
    assert in_order[0] >= min(ratios) * (1 - 1e-9)


@given(data=st.data())
def test_a_learner_that_agrees_has_no_distance(episodes, data):
    sequences = sequences_of([data.draw(episodes.groups())])
    metrics = compute_kl_sample_train(sequences, [s.sampler_logprobs_T for s in sequences])
    ratios = compute_ratio_quantiles(sequences, [s.sampler_logprobs_T for s in sequences])
    if sequences:
        assert metrics["optim/kl_sample_train_v1"] == metrics["optim/kl_sample_train_v2"] == 0
        assert set(ratios.values()) == {1.0}


def test_logprobs_of_another_length_are_refused(episodes):
    sequences = sequences_of([episodes.group_of([1.0])])
    with pytest.raises(ShapeError, match="expected 3 logprobs"):
        compute_kl_sample_train(sequences, [np.zeros(2, np.float32)])


@given(data=st.data(), version=st.integers(5, 14), bound=st.integers(0, 12))
def test_age_counts_versions_back_from_the_weights_that_train(episodes, data, version, bound):
    groups = [data.draw(episodes.groups())]
    metrics = compute_staleness_metrics(sequences_of(groups), version)
    ages = [
        version - t.ac.policy_version
        for t in transitions_of(groups)
        if t.ac.policy_version is not None
        for _ in t.ac.tokens
    ]
    assert count_tokens_over_age(groups, version - bound) == sum(age > bound for age in ages)
    if not ages:
        assert metrics == {}
        return
    shares = {f"async/age_{age}_frac": ages.count(age) / len(ages) for age in ages if age < 10}
    assert metrics == {
        "async/staleness_mean": pytest.approx(np.mean(ages)),
        "async/staleness_min": min(ages),
        "async/staleness_max": max(ages),
        **shares,
    }


@given(data=st.data())
def test_lengths_and_rewards_are_averages_over_their_own_kind(episodes, data):
    groups = data.draw(st.lists(episodes.groups(max_size=3), min_size=1, max_size=3))
    metrics = compute_trajectory_metrics(groups, [["a"]] * len(groups))
    assert all(name.startswith("env/all/") for name in metrics)
    turns = transitions_of(groups)
    episodes_ = [trajectory for group in groups for trajectory in group.trajectories_G]
    rewards = [reward for group in groups for reward in group.get_total_rewards()]
    assert metrics["env/all/total_turns"] == len(turns)
    assert metrics["env/all/total_episodes"] == len(episodes_)
    assert metrics["env/all/total_ac_tokens"] == sum(len(t.ac.tokens) for t in turns)
    assert metrics["env/all/total_ob_tokens"] == sum(t.ob.length for t in turns)
    assert metrics["env/all/reward/total"] == pytest.approx(np.mean(rewards), abs=1e-6)
    assert metrics["env/all/turns_per_episode"] == len(turns) / len(episodes_)
    fractions = [metrics[f"env/all/by_group/frac_{x}"] for x in ("mixed", "all_good", "all_bad")]
    assert sum(fractions) == pytest.approx(1)


def test_groups_are_all_good_all_bad_or_mixed(episodes):
    groups = [episodes.group_of(rewards) for rewards in ([1, 1], [0, 0], [0, 0], [0, 1])]
    metrics = compute_trajectory_metrics(groups, [[]] * 4)
    assert metrics["env/all/by_group/frac_all_good"] == 0.25
    assert metrics["env/all/by_group/frac_all_bad"] == 0.5
    assert metrics["env/all/by_group/frac_mixed"] == 0.25


def test_tags_are_reported_apart_when_they_divide_the_groups(episodes):
    groups = [episodes.group_of([1.0]), episodes.group_of([0.0])]
    metrics = compute_trajectory_metrics(groups, [["maths", "sums", "sums"], ["maths", "words"]])
    assert metrics["env/all/reward/total"] == metrics["env/maths/reward/total"] == 0.5
    assert metrics["env/sums/reward/total"] == 1.0
    assert metrics["env/words/reward/total"] == 0.0
    assert not any(
        name.startswith("env/sums/")
        for name in compute_trajectory_metrics(groups, [["sums"], ["sums"]])
    )


def test_what_environments_report_is_averaged_over_those_that_report_it(episodes):
    def group(*reported):
        return TrajectoryGroup(
            trajectories_G=[
                episodes.one_step_trajectory([1], [2], metrics=metrics) for metrics in reported
            ],
            final_rewards_G=[0.0 for _ in reported],
            metrics_G=[{"whole": 4.0} for _ in reported],
        )

    metrics = compute_trajectory_metrics([group({"correct": 1, "x": 8.0}, {"correct": 0})], [[]])
    assert metrics["env/all/correct"] == 0.5
    assert metrics["env/all/x"] == 8.0
    assert metrics["env/all/whole"] == 4.0


def test_truncated_episodes_are_counted():
    def trajectory(reason):
        step = Transition(ModelInput.from_ints([1]), TokensWithLogprobs([2], [-1.0]), 0.0, True)
        return Trajectory([step], ModelInput.empty(), reason)

    reasons = [StopReason.COMPLETED, StopReason.MAX_TURNS, StopReason.PARSE_ERROR, None]
    group = TrajectoryGroup([trajectory(r) for r in reasons], [0.0] * 4, [{}] * 4)
    assert compute_trajectory_metrics([group], [[]])["env/all/truncated"] == 0.25


def test_without_groups_there_is_nothing_to_say():
    assert compute_trajectory_metrics([], []) == {}
    assert compute_kl_sample_train([], []) == {}
    assert compute_ratio_quantiles([], []) == {}
    assert compute_staleness_metrics([], 3) == {}
    assert count_tokens_over_age([], 3) == 0
    assert dict_mean([]) == {}


@given(sampled=st.integers(0, 100), data=st.data())
def test_a_token_is_useful_when_it_trains(sampled, data):
    trained = data.draw(st.integers(0, sampled))
    assert useful_token_fraction(trained, sampled) == (trained / sampled if sampled else 1.0)
