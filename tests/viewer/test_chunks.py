"""What is said of each episode, and of each of its tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.envs import Transition
from tinker_rl.rl.outcomes import EnvFailure, InfraFailure, MemberFailure, UnfinishedEpisode
from tinker_rl.types import EncodedTextChunk, ModelInput
from tinker_rl.viewer.chunks import chunk, episodes_of
from tinker_rl.viewer.tokens import TokenText

SLOW = InfraFailure("sample", "SamplerError", "too slow")


def read(outcome, trained=None, failures=()):
    members = {m.member: m for m in trained.members} if trained else {}
    return list(episodes_of(3, 1, outcome, members, failures))


def test_a_turn_shows_what_is_new_in_its_observation(make):
    turns = [
        make.turn([1, 2], [3, 4]),
        make.turn([1, 2, 3, 4, 5], [6]),
        make.turn([9, 9], []),
        make.turn([9, 9], [7]),
    ]
    (found,) = read(make.rolled_out(make.episode(*turns)))
    shown = [(t["observation"], t["extends"], t["action"]) for t in found["turns"]]
    assert shown == [
        ([1, 2], False, [3, 4]),
        ([5], True, [6]),
        ([9, 9], False, []),
        ([], True, [7]),
    ]


def test_rewards_metrics_and_tags_are_told_by_their_parts(make):
    turns = [
        make.turn([1], [2], 0.25, metrics={"ok": 1, "late": 4.0}, logs={"said": "x", "n": 2}),
        make.turn([1, 2], [3], 0.5, metrics={"ok": 0}),
    ]
    outcome = make.rolled_out(
        make.episode(*turns), make.episode(make.turn([1], [2])), final=[1.0, 0.0], tags=("a", "b")
    )
    outcome.group.metrics_G[0]["won"] = 1
    first, second = read(outcome)
    assert first["reward"] == 1.75
    assert first["reward_parts"] == {"step rewards": 0.75, "group reward": 1.0}
    assert first["metrics"] == {"ok": 0.5, "late": 4.0, "won": 1}
    assert (first["advantage"], second["advantage"]) == (0.875, -0.875)
    assert first["tags"] == ["a", "b"]
    assert first["turns"][0]["logs"] == {"said": "x", "n": 2}
    assert (first["group"], first["step"], first["member"]) == (3, 1, 0)


def test_what_the_learner_said_is_split_between_turns(make):
    turns = [make.turn([1], [2, 3], logprobs=[-1.23456, -2.0]), make.turn([1, 2, 3], [4])]
    outcome = make.rolled_out(make.episode(*turns), make.episode(make.turn([1], [5, 6])))
    trained = make.trained(
        1, (3, 0, [-1.0, np.nan, -0.33333], [0.5, np.nan, -0.25]), (3, 1, [-1.0, -2.0], [0.5])
    )
    first, second = read(outcome, trained)
    assert [t["logprobs"] for t in first["turns"]] == [[-1.235, -2.0], [-0.5]]
    learner = [t["learner_logprobs"] for t in first["turns"]]
    np.testing.assert_equal(learner, [[-1.00044, np.nan], [-0.33333]])
    np.testing.assert_equal([t["advantages"] for t in first["turns"]], [[0.5, np.nan], [-0.25]])
    assert second["turns"][0]["learner_logprobs"] == [-1.0, -2.0]
    assert second["turns"][0]["advantages"] is None, "the episode's own says it"


@given(
    sampler=st.lists(st.floats(-30, 0, width=32), min_size=1, max_size=6),
    apart=st.floats(-2, 2, width=32),
)
def test_the_ratio_of_what_both_said_is_exact_although_numbers_are_short(make, sampler, apart):
    outcome = make.rolled_out(make.episode(make.turn([1], [2] * len(sampler), logprobs=sampler)))
    learner = np.array(sampler, np.float32) + np.float32(apart)
    (found,) = read(outcome, make.trained(1, (3, 0, learner, [0.5])))
    (turn,) = found["turns"]
    shown = np.array(turn["learner_logprobs"]) - np.array(turn["logprobs"])
    np.testing.assert_allclose(shown, learner - np.array(sampler), rtol=0, atol=1.1e-5)
    np.testing.assert_allclose(turn["learner_logprobs"], learner, rtol=6e-4, atol=2e-2)
    assert all(len(repr(value)) <= 12 for value in turn["learner_logprobs"])


def test_what_the_learner_said_of_other_tokens_is_not_shown(make):
    outcome = make.rolled_out(make.episode(make.turn([1], [2, 3])))
    (found,) = read(outcome, make.trained(1, (3, 0, [-1.0], [0.5])))
    assert found["turns"][0]["learner_logprobs"] is None


def test_versions_are_told_stretch_by_stretch(make):
    sampled = TokensWithLogprobs([1, 2, 3], None, "length", 4, ((4, 1), (5, 2)))
    turn = Transition(ModelInput.from_ints([1]), sampled, 0.0, True)
    (found,) = read(make.rolled_out(make.episode(turn, stop_reason="max_tokens")))
    assert found["turns"][0]["versions"] == [[4, 1], [5, 2]]
    assert found["turns"][0]["logprobs"] is None
    assert found["turns"][0]["stop_reason"] == "length"
    assert (found["outcome"], found["reason"]) == ("truncated", "max_tokens")


def test_members_keep_their_places_and_tell_of_their_failed_attempts(make):
    attempts = (
        MemberFailure(member=0, attempt=0, failure=SLOW),
        MemberFailure(member=2, attempt=1, failure=SLOW),
        MemberFailure(member=None, attempt=0, failure=SLOW),
    )
    episodes = [make.episode(make.turn([1], [2], reward)) for reward in (1.0, 0.0)]
    found = read(
        make.rolled_out(*episodes, members=(0, 2), failures=attempts), failures=["earlier"]
    )
    assert [episode["member"] for episode in found] == [0, 2]
    why = "sampler, in sample: SamplerError: too slow"
    assert found[1]["failures"] == ["earlier", f"attempt 1: {why}", f"attempt 0: {why}"]


def test_a_dropped_group_says_where_and_why(make):
    earlier = MemberFailure(member=0, attempt=0, failure=SLOW)
    last = MemberFailure(member=1, attempt=0, failure=make.dropped().failure)
    (found,) = read(make.dropped(failures=(earlier, last)))
    assert found["error"] == "environment, in step (my_env.py:12): OSError: gone"
    assert (found["outcome"], found["reason"], found["member"]) == ("dropped", "OSError", 1)
    assert found["failures"] == ["member 0, attempt 0: sampler, in sample: SamplerError: too slow"]
    assert (found["reward"], found["turns"]) == (None, [])


@pytest.mark.parametrize("has_acted", [True, False])
def test_a_dropped_group_shows_what_the_episode_did_until_it_broke(make, has_acted):
    unfinished = UnfinishedEpisode(
        transitions=(make.turn([1], [2], 0.5),),
        observation=ModelInput.from_ints([1, 2, 3]),
        action=TokensWithLogprobs([4], [-0.25], policy_version=7) if has_acted else None,
    )
    failure = EnvFailure("step", "OSError", "gone", "", unfinished)
    (found,) = read(make.dropped(failure, tags=("sums", "hard")))
    assert found["tags"] == ["sums", "hard"]
    first, last = found["turns"]
    assert (first["action"], first["reward"]) == ([2], 0.5)
    assert (last["observation"], last["extends"]) == ([3], True)
    assert last["action"] == ([4] if has_acted else [])
    assert last["logprobs"] == ([-0.25] if has_acted else [])
    assert last["stop_reason"] == ("stop" if has_acted else None)
    assert last["reward"] is None


def test_of_a_group_that_broke_itself_each_episode_is_there_and_has_no_reward(make):
    ended = tuple(make.episode(make.turn([1], [token], 0.5)) for token in (2, 3))
    found = read(make.dropped(member=None, trajectories=ended, members=(0, 2)))
    assert [(episode["member"], episode["outcome"]) for episode in found] == [
        (0, "dropped"),
        (2, "dropped"),
    ]
    assert [episode["turns"][0]["action"] for episode in found] == [[2], [3]]
    assert {episode["reward"] for episode in found} == {None}
    assert all("OSError: gone" in episode["error"] for episode in found)


def test_tokens_that_are_no_numbers_of_a_browser_are_marked(make):
    odd = ModelInput((EncodedTextChunk((1, 2**70)),))
    (found,) = read(make.rolled_out(make.episode(make.turn(odd, [2**65, 3]))))
    assert found["turns"][0]["observation"] == [1, -1]
    assert found["turns"][0]["action"] == [-1, 3]


@pytest.mark.parametrize("episodes", [0, 2])
def test_a_chunk_has_the_words_of_its_tokens_once(make, episodes):
    outcome = make.rolled_out(*[make.episode(make.turn([7, 7], [8])) for _ in range(episodes)])
    vocabulary = {7: b"a", 8: b"\xff"}
    found = chunk(read(outcome), TokenText(vocabulary.get))
    assert found["vocabulary"] == ({"7": "a", "8": [255]} if episodes else {})
    assert len(found["episodes"]) == episodes
