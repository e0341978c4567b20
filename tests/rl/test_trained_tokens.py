"""What the learner said, token by token of the episodes."""

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.rl.batch_training import training_data
from tinker_rl.rl.data import trajectory_to_data
from tinker_rl.rl.journal import GroupRecord, TrainingOptions
from tinker_rl.rl.learner import TrainStepOutput
from tinker_rl.rl.outcomes import RolledOutGroup
from tinker_rl.rl.trained_tokens import trained_record

PLAIN = TrainingOptions(learning_rate=1e-3, loss_fn="importance_sampling")


def said_of(sequences):
    """A learner whose logprob of a token is twice the sampler's, and one nat less."""
    return TrainStepOutput(
        sequences=tuple(sequences),
        learner_logprobs_D=tuple(2 * s.sampler_logprobs_T - 1 for s in sequences),
        metrics={},
    )


def records_of(groups, first):
    outcomes = [RolledOutGroup(group=group, tags=(), num_sampled_tokens=0) for group in groups]
    return [
        GroupRecord(group=first + place, policy_version=0, outcome=outcome)
        for place, outcome in enumerate(outcomes)
    ] + [GroupRecord(group=first + len(groups), policy_version=0, outcome=None)]


@given(data=st.data(), first=st.integers(0, 50), max_age=st.none() | st.integers(0, 4))
def test_every_token_that_trained_has_its_numbers_and_no_other_has(episodes, data, first, max_age):
    groups = data.draw(st.lists(episodes.groups(max_size=3), max_size=3))
    records = records_of(groups, first)
    options = msgspec.structs.replace(PLAIN, max_token_age=max_age)
    by_group, _ = training_data(records, options, policy_version=5)
    sequences = [sequence for group in by_group for sequence in group]
    record = trained_record(7, records, said_of(sequences))
    found = {(member.group, member.member): member for member in record.members}
    assert record.step == 7
    assert found.keys() == {(s.group, s.member) for s in sequences}
    for (number, place), member in found.items():
        trajectory = groups[number - first].trajectories_G[place]
        mine = {s.first_action: s for s in sequences if (s.group, s.member) == (number, place)}
        actions = [step.ac for step in trajectory.transitions]
        sampler = np.array([lp for action in actions for lp in action.logprobs], np.float32)
        versions = [v for action in actions for v, n in action.spans for _ in range(n)]
        advantages = np.broadcast_to(member.advantages, sampler.shape)
        assert member.learner_logprobs.shape == sampler.shape
        at = 0
        for sequence in trajectory_to_data(trajectory, 1.0):
            here = slice(at, at + sequence.num_action_tokens)
            at = here.stop
            if here.start not in mine:  # all of it is over age
                assert np.isnan(member.learner_logprobs[here]).all()
                assert np.isnan(advantages[here]).all()
                continue
            assert np.array_equal(member.learner_logprobs[here], 2 * sampler[here] - 1)
            (advantage,) = {*trained_advantages(mine[here.start])} or {0.0}
            for token in range(here.start, here.stop):
                version = versions[token]
                is_old = max_age is not None and version is not None and version < 5 - max_age
                assert advantages[token] == (0.0 if is_old else advantage)
        assert at == sampler.size


def trained_advantages(sequence):
    advantages = sequence.datum.loss_fn_inputs["advantages"].to_numpy()
    return [float(value) for value in advantages[sequence.loss_mask_T]]


def test_one_advantage_for_all_tokens_is_written_once(episodes):
    group = episodes.group_of([1.0, 0.0])
    records = records_of([group], 3)
    (sequences,), _ = training_data(records, PLAIN, policy_version=0)
    one, other = trained_record(0, records, said_of(sequences)).members
    assert (one.advantages.tolist(), other.advantages.tolist()) == ([0.5], [-0.5])
    assert (one.group, other.member) == (3, 1)
