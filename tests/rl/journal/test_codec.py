import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.envs import Trajectory, TrajectoryGroup, Transition
from tinker_rl.rl.journal import CommitRecord, GroupRecord, decode, encode
from tinker_rl.rl.journal.codec import decode_head
from tinker_rl.rl.journal.packing import Unpacker
from tinker_rl.rl.outcomes import DroppedGroup, EnvFailure, RolledOutGroup
from tinker_rl.types import ModelInput


def rolled_out(*trajectories):
    size = len(trajectories)
    return RolledOutGroup(
        group=TrajectoryGroup(list(trajectories), [0.0] * size, [{}] * size),
        tags=(),
        num_sampled_tokens=0,
    )


def record_of(outcome):
    return GroupRecord(group=0, policy_version=0, outcome=outcome)


def episode(prompt, num_turns, num_tokens):
    """Each observation is the one before, the action taken on it, and one token more."""
    observation, transitions = list(prompt), []
    for turn in range(num_turns):
        action = [turn] * num_tokens
        transitions.append(
            Transition(
                ModelInput.from_ints(observation),
                TokensWithLogprobs(action, [-0.5] * num_tokens),
                0.0,
                turn == num_turns - 1,
            )
        )
        observation = [*observation, *action, 7]
    return Trajectory(transitions, ModelInput.from_ints(observation))


@given(data=st.data())
def test_every_record_survives_exactly(records, data):
    record = data.draw(records.any)
    again = decode(encode(record))
    assert records.plain(again) == records.plain(record)
    assert encode(again) == encode(record)


@given(data=st.data())
def test_groups_as_runs_make_them_survive_exactly(episodes, records, data):
    record = record_of(
        RolledOutGroup(group=data.draw(episodes.groups()), tags=("sums",), num_sampled_tokens=3)
    )
    assert records.plain(decode(encode(record))) == records.plain(record)


@given(
    num_members=st.integers(1, 8),
    num_turns=st.integers(1, 8),
    prompt=st.integers(0, 500),
    num_tokens=st.integers(0, 100),
)
def test_every_token_is_stored_once(num_members, num_turns, prompt, num_tokens):
    members = [episode(range(prompt), num_turns, num_tokens) for _ in range(num_members)]
    num_action_tokens = num_members * num_turns * num_tokens
    new_tokens = prompt + num_members * num_turns
    size = len(encode(record_of(rolled_out(*members))))
    assert size <= 8 * num_action_tokens + 4 * new_tokens + 250 * num_members * (num_turns + 1)


def test_what_a_rewritten_history_shares_with_the_prompt_is_stored_once():
    prompt = list(range(1000))
    turns = [prompt, [*prompt[:10], 5], [*prompt, 6]]
    transitions = [
        Transition(ModelInput.from_ints(turn), TokensWithLogprobs([1], [-1.0]), 0.0, False)
        for turn in turns
    ]
    trajectory = Trajectory(transitions, ModelInput.empty())
    assert len(encode(record_of(rolled_out(trajectory)))) < 4 * 1000 + 1500


def test_logprobs_that_need_double_precision_keep_it(episodes):
    for logprob in (-0.1, -1e300, float("nan"), float(np.float32(-0.1))):
        trajectory = episodes.one_step_trajectory([1], [2], logprobs=[logprob])
        again = decode(encode(record_of(rolled_out(trajectory))))
        (kept,) = again.outcome.group.trajectories_G[0].transitions[0].ac.logprobs
        np.testing.assert_equal(kept, logprob)


class LaterGroup(RolledOutGroup, frozen=True, kw_only=True, tag="rolled_out"):
    """What a later version may make of an outcome."""

    episode: Trajectory
    weights: np.ndarray


def test_fields_added_later_are_stored_and_an_older_version_reads_the_rest(records):
    old = rolled_out(episode([1, 2], 2, 3))
    new = LaterGroup(
        **{name: getattr(old, name) for name in old.__struct_fields__},
        episode=episode([1, 2, 3], 1, 1),
        weights=np.arange(4).reshape(2, 2),
    )
    data = encode(record_of(new))
    tree = msgspec.msgpack.decode(data, ext_hook=Unpacker().unpack)
    again = msgspec.convert(tree["outcome"], LaterGroup)
    assert records.plain(again) == records.plain(new)
    assert records.plain(decode(data).outcome) == records.plain(old)


def test_numpy_numbers_become_pythons(records):
    record = records.commit(0, metrics={"loss": np.float64(0.5), "tokens": np.int64(3)})
    assert decode(encode(record)).metrics == {"loss": 0.5, "tokens": 3}


def test_text_that_is_no_utf_8_does_not_stop_a_run(records):
    failure = EnvFailure("step", "OSError", "no file \udcff")
    record = record_of(DroppedGroup(failure=failure, member=0, num_sampled_tokens=0))
    assert decode(encode(record)).outcome.failure.error == "no file ?"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode(3),
        msgspec.msgpack.encode({"type": "later"}),
        msgspec.msgpack.encode({"type": "commit", "step": "one"}),
        msgspec.msgpack.encode({"type": "commit", "x": msgspec.msgpack.Ext(77, b"\x90")}),
        msgspec.msgpack.encode({"type": "commit", "x": msgspec.msgpack.Ext(1, b"\x90")}),
        msgspec.msgpack.encode({"type": "commit", "x": msgspec.msgpack.Ext(5, b"nine")}),
    ],
)
def test_what_is_no_record_is_said_to_be_none(data):
    for read in (decode, decode_head):
        with pytest.raises(ValueError, match=r"^expected"):
            read(data)


@given(data=st.data())
def test_a_head_tells_what_became_of_a_group(records, data):
    record = data.draw(records.groups())
    head = decode_head(encode(record))
    kinds = {RolledOutGroup: "rolled_out", DroppedGroup: "dropped", type(None): "none"}
    assert (head.group, head.policy_version) == (record.group, record.policy_version)
    assert head.kind == kinds[type(record.outcome)]
    assert head.num_sampled_tokens == getattr(record.outcome, "num_sampled_tokens", 0)
    assert head.num_failures == len(getattr(record.outcome, "failures", ()))


def test_other_records_have_no_smaller_head(records):
    record = records.commit(1, 2, 3, metrics={"loss": 0.5})
    head = decode_head(encode(record))
    assert isinstance(head, CommitRecord)
    assert head == record
