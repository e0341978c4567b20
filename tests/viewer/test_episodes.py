"""What the list says of episodes that broke, and of those of a group that did."""

import numpy as np
import pytest

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.rl.outcomes import EnvFailure, UnfinishedEpisode
from tinker_rl.types import ModelInput
from tinker_rl.viewer.episodes import EpisodeTable, rows_of
from tinker_rl.viewer.plain import NONE
from tinker_rl.viewer.tokens import TokenText

NOTHING = TokensWithLogprobs([], [], policy_version=6)
LAST = TokensWithLogprobs([4], [-0.25], policy_version=7)


@pytest.mark.parametrize(
    ("answered", "action", "version"),
    [(5, LAST, 5), (5, None, 5), (None, LAST, 7), (None, NOTHING, NONE), (None, None, NONE)],
)
def test_a_dropped_group_has_the_version_of_the_first_token_of_the_episode_that_broke(
    make, answered, action, version
):
    turns = () if answered is None else (make.turn([1], [2], version=answered),)
    unfinished = UnfinishedEpisode(
        transitions=turns, observation=ModelInput.from_ints([1]), action=action
    )
    failure = EnvFailure("step", "OSError", "gone", "", unfinished)
    (row,) = rows_of(make.dropped(failure, tags=("sums", "hard")), TokenText({}.get))
    assert (row.version, row.tag) == (version, "sums, hard")


def test_a_group_that_broke_before_any_episode_has_no_version(make):
    (row,) = rows_of(make.dropped(), TokenText({}.get))
    assert (row.version, row.tag, row.turns) == (NONE, "", 0)


def test_a_group_that_broke_itself_has_a_row_for_each_episode_and_counts_once(make):
    turns = (make.turn([1], [2, 3], version=4), make.turn([1], [], version=4))
    ended = (make.episode(*turns), make.episode(turns[0]))
    dropped = make.dropped(member=None, trajectories=ended, members=(1, 3))
    rows = rows_of(dropped, TokenText({}.get))
    said = [(row.member, row.outcome, row.version, row.turns, row.tokens) for row in rows]
    assert said == [(1, "dropped", 4, 2, 2), (3, "dropped", 4, 1, 2)]
    assert all(np.isnan(row.reward) for row in rows)
    table = EpisodeTable()
    table.put(0, rows_of(make.simple(1.0, 0.0), TokenText({}.get)))
    table.put(1, rows)
    assert table.count() == (2, 1)
