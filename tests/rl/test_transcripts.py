import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.envs import TrajectoryGroup
from tinker_rl.rl.outcomes import DroppedGroup, EnvFailure, RolledOutGroup, UnfinishedEpisode
from tinker_rl.rl.transcripts import write_transcripts
from tinker_rl.types import ModelInput


class Words:
    """A tokenizer whose token n reads `<n>`."""

    def decode(self, token_ids):
        return "".join(f"<{token}>" for token in token_ids)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("transcripts")


def read(folder, step=3):
    name = f"step_{step:06d}"
    path = folder / "transcripts" / name
    lines = path.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines], path.with_suffix(".txt").read_text("utf-8")


@given(data=st.data())
def test_every_token_is_shown_once_and_nothing_is_invented(episodes, folder, data):
    group = data.draw(episodes.groups())
    outcome = RolledOutGroup(group=group, tags=("sums",), num_sampled_tokens=0)
    write_transcripts(folder, 3, [(17, outcome)], Words())
    records, page = read(folder)
    assert [record["member"] for record in records] == list(range(len(group.trajectories_G)))
    rewards = group.get_total_rewards()
    for record, trajectory in zip(records, group.trajectories_G, strict=True):
        assert (record["step"], record["group"], record["tags"]) == (3, 17, ["sums"])
        assert record["reward"] == rewards[record["member"]]
        shown = ""
        for turn, transition in zip(record["turns"], trajectory.transitions, strict=True):
            shown = shown + turn["observation"] if turn["extends_the_last"] else turn["observation"]
            assert shown == Words().decode(transition.ob.to_ints())
            assert turn["action"] == Words().decode(transition.ac.tokens)
            assert turn["policy_version"] == transition.ac.policy_version
            shown += turn["action"]
            assert turn["action"] in page
    assert page.count("==== step 3, group 17") == len(records)


def test_members_keep_their_places_when_others_are_left_out(tmp_path, episodes):
    group = episodes.group_of([1.0, 0.0])
    outcome = RolledOutGroup(group=group, tags=(), num_sampled_tokens=0, members=(1, 3))
    write_transcripts(tmp_path, 3, [(0, outcome)], Words())
    records, _ = read(tmp_path)
    assert [(record["member"], record["reward"]) for record in records] == [(1, 1.0), (3, 0.0)]


def test_dropped_groups_are_shown_with_their_error(tmp_path):
    dropped = DroppedGroup(
        failure=EnvFailure("step", "OSError", "gone"), member=1, num_sampled_tokens=0
    )
    write_transcripts(tmp_path, 3, [(5, dropped)], Words())
    ((record,), page) = read(tmp_path)
    assert record["outcome"] == "dropped"
    assert "OSError: gone" in record["error"]
    assert "group 5, member 1: DROPPED" in page


def test_of_a_group_that_broke_itself_every_episode_is_shown(tmp_path, episodes):
    failure = EnvFailure("compute_group_rewards", "OSError", "gone")
    ended = (episodes.one_step_trajectory([1], [2]), episodes.one_step_trajectory([1], [3]))
    dropped = DroppedGroup(
        failure=failure, member=None, num_sampled_tokens=2, trajectories=ended, members=(0, 2)
    )
    write_transcripts(tmp_path, 3, [(5, dropped)], Words())
    records, page = read(tmp_path)
    assert [record["member"] for record in records] == [0, 2]
    assert [record["turns"][0]["action"] for record in records] == ["<2>", "<3>"]
    assert page.count("OSError: gone") == 2
    assert "group 5, member 2: DROPPED" in page


class OfNine:
    """A tokenizer with nine tokens, as strict as some are."""

    def decode(self, token_ids):
        if not all(0 <= token < 9 for token in token_ids):
            raise OverflowError("out of range")
        return Words().decode(token_ids)


@pytest.mark.parametrize("has_acted", [True, False])
def test_what_a_dropped_episode_did_until_it_broke_is_shown(tmp_path, episodes, has_acted):
    (first,) = episodes.one_step_trajectory([1], [2], reward=0.5).transitions
    unfinished = UnfinishedEpisode(
        transitions=(first,),
        observation=ModelInput.from_ints([1, 2, 3]),
        action=TokensWithLogprobs([4, 99], [-1.0, -1.0]) if has_acted else None,
    )
    failure = EnvFailure("step", "OSError", "gone", "", unfinished)
    dropped = DroppedGroup(failure=failure, member=1, num_sampled_tokens=3)
    write_transcripts(tmp_path, 3, [(5, dropped)], OfNine())
    ((record,), page) = read(tmp_path)
    first, last = record["turns"]
    assert (first["observation"], first["action"], first["reward"]) == ("<1>", "<2>", 0.5)
    assert (last["observation"], last["extends_the_last"]) == ("<3>", True)
    assert last["action"] == ("token ids [4, 99]" if has_acted else None)
    assert last["reward"] is None
    assert ("token ids [4, 99]" in page) == has_acted
    assert ("no answer" in page) == has_acted
    assert ("turn 2, no action" in page) == (not has_acted)
    assert page.index("OSError: gone") < page.index("---- turn 1")


def test_metrics_and_logs_are_shown_and_odd_numbers_stay_json(tmp_path, episodes):
    trajectory = episodes.one_step_trajectory([1], [2], metrics={"correct": float("nan")})
    group = TrajectoryGroup([trajectory], [0.0], [{}])
    outcome = RolledOutGroup(group=group, tags=(), num_sampled_tokens=0)
    write_transcripts(tmp_path, 3, [(0, outcome)], Words())
    ((record,), page) = read(tmp_path)
    assert record["turns"][0]["metrics"] == {"correct": None}
    assert "correct: nan" in page
