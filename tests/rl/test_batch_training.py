"""What a batch trains, and that it trains the same whether it is streamed or taken whole."""

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.clients import ServiceClient
from tinker_rl.engine.local import EngineOptions
from tinker_rl.errors import RequestError
from tinker_rl.rl.advantages import compute_advantages, has_constant_reward
from tinker_rl.rl.batch_training import (
    BatchTrainer,
    check_loss,
    mask_over_age,
    train_batch,
    training_data,
)
from tinker_rl.rl.data import UNKNOWN_VERSION, assemble_training_data, trajectory_to_data
from tinker_rl.rl.journal import GroupRecord, TrainingOptions
from tinker_rl.rl.learner import split_evenly
from tinker_rl.rl.outcomes import DroppedGroup, EnvFailure, RolledOutGroup
from tinker_rl.types import ModelInput

PLAIN = TrainingOptions(learning_rate=1e-3, loss_fn="importance_sampling")


def record(number, group, **fields):
    outcome = RolledOutGroup(group=group, tags=(), num_sampled_tokens=0)
    return GroupRecord(group=number, policy_version=0, outcome=outcome, **fields)


def empty(number):
    return GroupRecord(group=number, policy_version=0, outcome=None)


def dropped(number):
    failure = EnvFailure("step", "OSError", "gone")
    outcome = DroppedGroup(failure=failure, member=0, num_sampled_tokens=3)
    return GroupRecord(group=number, policy_version=0, outcome=outcome)


def advantages(sequence):
    return sequence.datum.loss_fn_inputs["advantages"].to_numpy()


def same(one, other):
    inputs = zip(
        one.datum.loss_fn_inputs.values(), other.datum.loss_fn_inputs.values(), strict=True
    )
    return (
        one.datum.model_input == other.datum.model_input
        and all(np.array_equal(a.to_numpy(), b.to_numpy()) for a, b in inputs)
        and np.array_equal(one.loss_mask_T, other.loss_mask_T)
    )


@given(data=st.data(), oldest=st.integers(0, 6), advantage=st.floats(0.5, 2, width=32))
def test_masked_is_what_is_over_age_and_nothing_else(episodes, data, oldest, advantage):
    for sequence in trajectory_to_data(data.draw(episodes.trajectories()), advantage):
        masked = mask_over_age(sequence, oldest)
        versions = sequence.policy_version_T
        goes = (versions != UNKNOWN_VERSION) & (versions < oldest) & sequence.loss_mask_T
        assert np.array_equal(masked.loss_mask_T, sequence.loss_mask_T & ~goes)
        assert np.array_equal(advantages(masked), np.where(goes, 0, advantages(sequence)))
        assert np.array_equal(masked.policy_version_T, versions)
        assert masked.datum.model_input == sequence.datum.model_input
        assert np.array_equal(masked.sampler_logprobs_T, sequence.sampler_logprobs_T)
        assert (masked is sequence) == (not goes.any())


@given(data=st.data(), removes=st.booleans(), max_age=st.none() | st.integers(0, 6))
def test_groups_train_whole_unless_they_are_constant_or_over_age(episodes, data, removes, max_age):
    groups = data.draw(st.lists(episodes.groups(min_size=2, max_size=3), max_size=3))
    records = [record(2 * number, group) for number, group in enumerate(groups)]
    options = TrainingOptions(
        learning_rate=1e-3, loss_fn="ppo", remove_constant_reward_groups=removes,
        max_token_age=max_age,
    )  # fmt: skip
    found, metrics = training_data([dropped(1), *records, empty(9)], options, 5)
    kept = [group for group in groups if not (removes and has_constant_reward(group))]
    whole = assemble_training_data(kept, compute_advantages(kept))
    assert metrics == {}
    assert len(found) == len(whole)
    for ours, theirs in zip(found, whole, strict=True):
        if max_age is None:
            expected = theirs
        else:
            masked = [mask_over_age(sequence, 5 - max_age) for sequence in theirs]
            expected = [sequence for sequence in masked if sequence.num_action_tokens]
        assert len(ours) == len(expected)
        assert all(same(a, b) for a, b in zip(ours, expected, strict=True))


def test_the_penalty_reads_the_references_of_the_groups_that_are_kept(episodes):
    groups = [episodes.group_of([1.0, 0.0]), episodes.group_of([1.0, 1.0])]
    near = np.full(3, -1.0, np.float32)
    references = [(((near - 2),), ((near - 4),)), ((near,), (near,))]
    records = [
        record(number, group, reference_logprobs=scores)
        for number, (group, scores) in enumerate(zip(groups, references, strict=True))
    ]
    options = TrainingOptions(
        learning_rate=1e-3, loss_fn="ppo", kl_penalty_coef=0.5, remove_constant_reward_groups=True
    )
    ((one, other),), metrics = training_data(records, options, 0)
    assert metrics == {"kl_policy_base": pytest.approx(3.0)}
    assert advantages(one)[one.loss_mask_T] == pytest.approx([0.5 + 0.5 * (3 - 2)] * 2)
    assert advantages(other)[other.loss_mask_T] == pytest.approx([-0.5 + 0.5 * (3 - 4)] * 2)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    options = EngineOptions(home=str(tmp_path_factory.mktemp("home")), threads=1)
    with ServiceClient(engine_options=options) as client:
        yield client


def trained(service, train, backend="trio"):
    """What the learner says of a batch, and the logprobs of a prompt afterwards."""
    client = service.create_lora_training_client("tiny", rank=4, seed=0)
    output = anyio.run(train, client, backend=backend)
    sampler = client.save_weights_and_get_sampling_client()
    prompt = ModelInput.from_ints([1, 2, 3, 4, 5])
    return output, sampler.compute_logprobs(prompt).result()[1:]


@pytest.mark.parametrize(
    ("num_minibatches", "num_substeps"), [(None, 1), (None, 2), (2, 1), (2, 2)]
)
def test_a_replayed_batch_trains_with_the_requests_of_the_streamed_one(
    service, backend, episodes, num_minibatches, num_substeps
):
    records = [record(number, episodes.group_of([1.0, 0.1 * number])) for number in range(4)]
    options = TrainingOptions(
        learning_rate=1e-2, loss_fn="importance_sampling", num_substeps=num_substeps,
        num_minibatches=num_minibatches,
    )  # fmt: skip

    async def streamed(client):
        trainer = BatchTrainer(client, options, 0)
        for part in split_evenly(records, options.num_parts):
            await trainer.add(part)
            await anyio.sleep(0.01)
        return await trainer.result()

    async def replayed(client):
        return await train_batch(client, records, options, 0)

    (one, after), (other, after_too) = (
        trained(service, streamed, backend),
        trained(service, replayed, backend),
    )
    assert after == after_too
    assert len(one.sequences) == len(other.sequences) == 8
    for ours, theirs in zip(one.learner_logprobs_D, other.learner_logprobs_D, strict=True):
        assert np.array_equal(ours, theirs)
    assert one.metrics["optim/loss"] == other.metrics["optim/loss"]


def test_a_batch_with_nothing_to_train_changes_nothing(service):
    async def train(client):
        return await train_batch(client, [dropped(0), empty(1)], PLAIN, 0)

    async def rest(client):
        return None

    assert trained(service, train) == trained(service, rest)


def test_a_loss_that_the_engine_lacks_is_refused_before_anything_is_sampled(service, backend):
    client = service.create_lora_training_client("tiny", rank=4, seed=0)
    anyio.run(check_loss, client, PLAIN, backend=backend)
    with pytest.raises(RequestError, match="no_such_loss"):
        anyio.run(check_loss, client, TrainingOptions(learning_rate=1.0, loss_fn="no_such_loss"))
