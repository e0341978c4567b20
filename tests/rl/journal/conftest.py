"""Strategies of records, and a way to compare them."""

from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from hypothesis import strategies as st

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.envs import StopReason, Trajectory, TrajectoryGroup, Transition
from tinker_rl.rl.journal import (
    CommitRecord,
    EvaluationRecord,
    FailureRecord,
    GroupRecord,
    Journal,
    StartRecord,
    TrainedMember,
    TrainedRecord,
    TrainingOptions,
)
from tinker_rl.rl.outcomes import (
    DroppedGroup,
    EnvFailure,
    InfraFailure,
    MemberFailure,
    RolledOutGroup,
    RolloutTimes,
    UnfinishedEpisode,
)
from tinker_rl.types import EncodedTextChunk, ModelInput

token_ids = st.integers(0, 9) | st.integers(-(2**70), 2**70)
odd_floats = st.floats() | st.integers(-5, 5)
metrics = st.dictionaries(st.text(max_size=3), odd_floats, max_size=2)
logs = st.dictionaries(st.text(max_size=3), odd_floats | st.text(max_size=3), max_size=2)


def plain(value):
    """Anything as tuples and text in which equal means exactly equal; chunks are joined."""
    if isinstance(value, ModelInput):
        return tuple(value.to_ints())
    if isinstance(value, msgspec.Struct):
        fields = {name: plain(getattr(value, name)) for name in value.__struct_fields__}
        return (type(value).__name__, fields)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    return repr(value)


unfinished = st.deferred(lambda: trajectories()).map(
    lambda episode: UnfinishedEpisode(
        transitions=tuple(episode.transitions[:-1]),
        observation=episode.final_ob,
        action=episode.transitions[-1].ac if episode.transitions else None,
    )
)
failures = st.builds(
    lambda kind, done, *texts: kind(*texts, unfinished=done),
    st.sampled_from([EnvFailure, InfraFailure]),
    st.none() | unfinished,
    st.text(max_size=5),
    st.text(max_size=5),
    st.text(max_size=5),
)
attempts = st.lists(
    st.builds(MemberFailure, member=st.none(), attempt=st.integers(0, 3), failure=failures),
    max_size=2,
).map(tuple)
times = st.builds(RolloutTimes, seconds=st.floats())


@st.composite
def versions(draw, num_tokens):
    """The version of an action's first token, and the stretches of all versions."""
    if num_tokens < 2 or draw(st.booleans()):
        return draw(st.none() | st.integers(0, 9)), None
    first, second = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    return first, ((first, 1), (second, num_tokens - 1))


@st.composite
def trajectories(draw):
    """Episodes of odd tokens and numbers, whose observations extend the history or do not."""
    history, transitions = [], []
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            history = history[: draw(st.integers(0, len(history)))]
        observation = history + draw(st.lists(token_ids, max_size=4))
        action = draw(st.lists(token_ids, max_size=3))
        precision = draw(st.sampled_from([32, 64]))
        floats = st.lists(st.floats(width=precision), min_size=len(action), max_size=len(action))
        transitions.append(
            Transition(
                ob=ModelInput(tuple(EncodedTextChunk((token,)) for token in observation)),
                ac=TokensWithLogprobs(
                    action,
                    draw(st.none() | floats),
                    draw(st.sampled_from(["stop", "length"])),
                    *draw(versions(len(action))),
                ),
                reward=draw(st.floats(allow_nan=False, allow_infinity=False)),
                episode_done=draw(st.booleans()),
                metrics=draw(metrics),
                logs=draw(logs),
            )
        )
        history = observation + action
    final_ob = ModelInput.from_ints(history + draw(st.lists(token_ids, max_size=2)))
    return Trajectory(transitions, final_ob, draw(st.none() | st.sampled_from(StopReason)))


@st.composite
def rolled_out(draw):
    members = draw(st.lists(trajectories(), min_size=1, max_size=3))
    return RolledOutGroup(
        group=TrajectoryGroup(
            members, [draw(st.floats(-9, 9)) for _ in members], [draw(metrics) for _ in members]
        ),
        tags=tuple(draw(st.lists(st.text(max_size=3), max_size=2))),
        num_sampled_tokens=draw(st.integers(0, 99)),
        cleanup_error=draw(st.none() | st.text(max_size=5)),
        failures=draw(attempts),
        times=draw(times),
    )


dropped = st.builds(
    DroppedGroup,
    failure=failures,
    member=st.none() | st.integers(0, 3),
    num_sampled_tokens=st.integers(0, 99),
    cleanup_error=st.none() | st.text(max_size=5),
    failures=attempts,
    trajectories=st.lists(trajectories(), max_size=2).map(tuple),
    times=times,
)
arrays = st.lists(st.floats(width=32), max_size=3).map(lambda values: np.array(values, np.float32))
references = st.lists(st.lists(arrays, max_size=2).map(tuple), max_size=2).map(tuple)


any_number = st.integers(0, 99)


def group_records(numbers=any_number):
    return st.builds(
        GroupRecord,
        group=numbers,
        policy_version=st.integers(0, 9),
        outcome=st.none() | dropped | rolled_out(),
        reference_logprobs=st.none() | references,
    )


def failure_records(numbers=any_number):
    return st.builds(
        FailureRecord, group=numbers, policy_version=st.integers(0, 9), outcome=dropped
    )


hashes = st.none() | st.text(max_size=4)
nested = st.dictionaries(st.text(max_size=3), odd_floats | st.text(max_size=3) | metrics)
starts = st.builds(StartRecord, version=st.integers(0, 9), weight_hash=hashes, sampler_path=hashes)
evaluations = st.builds(
    EvaluationRecord,
    version=st.integers(0, 9),
    metrics=st.dictionaries(st.text(max_size=3), st.floats(), max_size=2),
)
trained = st.builds(
    TrainedRecord,
    step=st.integers(0, 9),
    members=st.lists(
        st.builds(
            TrainedMember,
            group=any_number,
            member=st.integers(0, 3),
            learner_logprobs=arrays,
            advantages=arrays,
        ),
        max_size=2,
    ).map(tuple),
)
commits = st.builds(
    CommitRecord,
    step=st.integers(0, 9),
    groups=st.lists(st.integers(0, 99), max_size=3).map(tuple),
    weight_hash=hashes,
    acting_version=st.integers(0, 9),
    sampler_path=hashes,
    metrics=nested,
    training=st.none() | st.builds(TrainingOptions, learning_rate=st.floats(), loss_fn=st.text()),
)


def finished(number, outcome=None, version=0):
    """A small record of a group."""
    return GroupRecord(group=number, policy_version=version, outcome=outcome)


def commit(step, *groups, **fields):
    """A small record of a batch."""
    fields = {"weight_hash": None, "acting_version": step + 1, **fields}
    return CommitRecord(step=step, groups=groups, **fields)


def written(path, *records):
    """A closed journal of these records, and the offset of each, and at last the end."""
    offsets = []
    with Journal.open(path) as journal:
        offsets.append(path.stat().st_size)
        for record in records:
            journal.append(record)
            offsets.append(path.stat().st_size)
    return offsets


@pytest.fixture(scope="session")
def records():
    """Strategies and builders of records."""
    return SimpleNamespace(
        any=group_records() | failure_records() | commits | starts | evaluations | trained,
        groups=group_records,
        failures=failure_records,
        rolled_out=rolled_out,
        finished=finished,
        commit=commit,
        plain=plain,
        written=written,
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.bin"


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """For properties, whose examples share it."""
    return tmp_path_factory.mktemp("journals")
