"""What the list says of an episode that broke."""

import pytest

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.rl.outcomes import EnvFailure, UnfinishedEpisode
from tinker_rl.types import ModelInput
from tinker_rl.viewer.episodes import rows_of
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
