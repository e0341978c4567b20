import math

import anyio
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.errors import ShapeError
from tinker_rl.policies import FrozenPolicy
from tinker_rl.rl.data import assemble_training_data, trajectory_to_data
from tinker_rl.rl.kl_penalty import apply_kl_penalty, discounted_future_sum, reference_logprobs

discounts = st.sampled_from([0.0, 0.5, 0.99, 1.0]) | st.floats(0, 1)


def advantages(sequence):
    return sequence.datum.loss_fn_inputs["advantages"].to_numpy()


@st.composite
def batches(draw, episodes):
    """Groups of sequences, with random reference logprobs."""
    groups = draw(st.lists(episodes.groups(max_size=2), max_size=3))
    sizes = [len(group.trajectories_G) for group in groups]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    sequences = assemble_training_data(groups, [rng.normal(size=size) for size in sizes])
    scored = [[rng.normal(-3, 1, s.loss_mask_T.shape).astype("f4") for s in g] for g in sequences]
    return sequences, scored


@given(data=st.data(), coef=st.floats(0, 4), discount=discounts)
def test_the_penalty_is_that_of_a_plain_loop(episodes, data, coef, discount):
    groups, references = data.draw(batches(episodes))
    penalised, metrics = apply_kl_penalty(groups, references, coef, discount)
    pairs = [
        (sequence, reference)
        for group, scored in zip(groups, references, strict=True)
        for sequence, reference in zip(group, scored, strict=True)
    ]
    rows = [
        [
            float(q) - float(p) if trains else None
            for q, p, trains in zip(s.sampler_logprobs_T, reference, s.loss_mask_T, strict=True)
        ]
        for s, reference in pairs
    ]
    known = [d for row in rows for d in row if d is not None]
    if not known:
        assert metrics == {}
        assert [list(map(id, g)) for g in penalised] == [list(map(id, g)) for g in groups]
        return
    mean = math.fsum(known) / len(known)
    assert metrics == {"kl_policy_base": pytest.approx(mean, abs=1e-9)}
    assert [len(group) for group in penalised] == [len(group) for group in groups]
    ours = [sequence for group in penalised for sequence in group]
    for (sequence, _), row, changed in zip(pairs, rows, ours, strict=True):
        earned = [0.0 if d is None else coef * (mean - d) for d in row]
        for t, before in enumerate(advantages(sequence)):
            later = math.fsum(discount**j * value for j, value in enumerate(earned[t:]))
            expected = float(before) + (later if row[t] is not None else 0.0)
            assert advantages(changed)[t] == pytest.approx(expected, rel=1e-5, abs=1e-5)
        assert changed.datum.model_input == sequence.datum.model_input
        assert changed.sampler_logprobs_T is sequence.sampler_logprobs_T


@given(data=st.data())
def test_without_a_discount_the_batch_earns_nothing_in_all(episodes, data):
    groups, references = data.draw(batches(episodes))
    penalised, _ = apply_kl_penalty(groups, references, 2.0)
    before = sum(advantages(s).sum(dtype=float) for group in groups for s in group)
    after = sum(advantages(s).sum(dtype=float) for group in penalised for s in group)
    assert after == pytest.approx(before, abs=1e-4)


@given(size=st.integers(0, 70), discount=discounts, seed=st.integers(0, 99))
def test_future_sums_are_those_of_the_recurrence(size, discount, seed):
    values = np.random.default_rng(seed).normal(size=size)
    expected, later = np.empty(size), 0.0
    for t in reversed(range(size)):
        expected[t] = later = values[t] + discount * later
    np.testing.assert_allclose(discounted_future_sum(values, discount), expected, atol=1e-12)


def test_long_sequences_neither_overflow_nor_lose_digits():
    sums = discounted_future_sum(np.ones(100_000), 0.5)
    assert sums[0] == pytest.approx(2.0)
    assert sums[-1] == 1.0


def test_a_reference_that_does_not_match_is_refused(episodes):
    (group,) = assemble_training_data([episodes.group_of([1.0, 0.0])], [np.ones(2)])
    good = [s.sampler_logprobs_T for s in group]
    with pytest.raises(ShapeError, match="an array for each of 2 sequences"):
        apply_kl_penalty([group], [good[:1]], 1.0)
    with pytest.raises(ShapeError, match=r"expected 3 finite logprobs.*group 0, member 1"):
        apply_kl_penalty([group], [[good[0], good[1][:2]]], 1.0)
    with pytest.raises(ShapeError, match="-inf"):
        apply_kl_penalty([group], [[good[0], np.array([-1.0, -np.inf, -1.0])]], 1.0)


# ------------------------------------------------------------------------- scored by the engine


def test_the_reference_scores_the_targets_as_a_model_with_its_weights_does(
    service, episodes, backend
):
    sequences = [
        sequence
        for prompt, action in (([5, 6, 7], [8, 9]), ([5, 6, 7], [10]), ([3], [1, 2, 4]))
        for sequence in trajectory_to_data(episodes.one_step_trajectory(prompt, action), 1.0)
    ]

    async def go():
        client = await service.create_lora_training_client_async("tiny", rank=4, seed=0)
        learned = await client.forward_async([s.datum for s in sequences], "importance_sampling")
        expected = [entry["logprobs"].to_numpy() for entry in (await learned).loss_fn_outputs]
        base = await service.create_sampling_client_async(base_model="tiny")
        for reference in (base, FrozenPolicy(base, max_tokens=1, temperature=0.5)):
            scored = await reference_logprobs(reference, sequences)
            for ours, theirs in zip(scored, expected, strict=True):
                assert ours.dtype == np.float32
                np.testing.assert_allclose(ours, theirs, atol=1e-4)

    anyio.run(go, backend=backend)


def test_a_sequence_that_fills_the_context_is_scored_up_to_its_last_token(service, episodes):
    async def go():
        base = await service.create_sampling_client_async(base_model="tiny")
        context = 1024
        trajectory = episodes.one_step_trajectory([5] * (context - 2), [7, 9], logprobs=[-1, -2.5])
        (sequence,) = trajectory_to_data(trajectory, 1.0)
        shorter = episodes.one_step_trajectory([5] * (context - 2), [7])
        (all_but_last,) = trajectory_to_data(shorter, 1.0)
        scored, expected = await reference_logprobs(base, [sequence, all_but_last])
        assert scored[-1] == np.float32(-2.5)
        np.testing.assert_array_equal(scored[:-1], expected)
        with pytest.raises(BaseExceptionGroup):
            await reference_logprobs(base, [msgspec.structs.replace(sequence, datum=None)])

    anyio.run(go)
