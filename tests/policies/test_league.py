"""Leagues: who is a member, and who meets whom."""

from collections import Counter
from itertools import pairwise

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.errors import ConfigError, RequestError
from tinker_rl.policies import EpisodeKey, FrozenPolicy, League
from tinker_rl.policies.league import kept_versions
from tinker_rl.types import ModelInput

options = st.fixed_dictionaries(
    {
        "every": st.integers(1, 4),
        "max_size": st.integers(2, 6),
        "max_lag": st.integers(0, 5),
        "seed": st.integers(0, 2),
    }
)
histories = st.sets(st.integers(0, 60), min_size=1, max_size=40).map(sorted)
"""Versions that were published; some could not be."""


def key(group, member=0):
    return EpisodeKey(run_seed=1, group=group, member=member)


def policy(version):
    """One that is asked for nothing but its version."""
    return FrozenPolicy(None, max_tokens=1, policy_version=version)


def offer_all(league, versions):
    for version in versions:
        league.offer(version, policy(version))


@given(options=options, history=histories)
def test_every_kth_version_is_taken_in_and_the_first_and_newest_stay(options, history):
    league = League(**options)
    taken = []
    for version in history:
        assert league.offer(version, policy(version)) == (version % options["every"] == 0)
        taken += [version] if version % options["every"] == 0 else []
        assert set(league.versions) <= set(taken)
        assert len(league.versions) <= options["max_size"] + options["max_lag"]
        if taken:
            assert (league.versions[0], league.versions[-1]) == (taken[0], taken[-1])


@given(max_size=st.integers(2, 10), count=st.integers(1, 300))
def test_members_are_spread_over_the_whole_run(max_size, count):
    kept = kept_versions(range(count), max_size)
    assert len(kept) == min(max_size, count)
    gaps = [after - before for before, after in pairwise(kept)]
    assert max(gaps, default=1) <= max(1, 4 * count / max_size)


@given(options=options, history=histories, data=st.data())
def test_whom_an_episode_meets_depends_on_its_version_and_key_alone(options, history, data):
    """Not on how many versions were published before it came to ask, nor on a restart."""
    cut = data.draw(st.integers(0, len(history) - 1))
    up_to = history[cut]
    now, later, restored = (League(**options) for _ in range(3))
    offer_all(now, history[: cut + 1])
    soon = [v for v in history if v <= up_to + options["max_lag"]]
    restart = data.draw(st.integers(cut + 1, len(soon)))
    offer_all(later, soon[:restart])
    restored.restore({version: policy(version) for version in later.versions})
    for league in (later, restored):
        offer_all(league, soon[restart:])
    if not now.versions:
        with pytest.raises(RequestError, match="expected a member of version"):
            now.opponent(key(0), up_to)
        return
    for group in range(20):
        met = [
            league.opponent(key(group), up_to).policy_version for league in (now, later, restored)
        ]
        assert len(set(met)) == 1
        assert met[0] <= up_to


@given(options=options, history=histories)
def test_an_episode_that_lies_back_too_far_is_refused(options, history):
    league = League(**options)
    offer_all(league, history)
    with pytest.raises(RequestError, match="as max_lag"):
        league.opponent(key(0), history[-1] - options["max_lag"] - 1)


def test_every_member_is_met_about_equally_often():
    league = League(max_size=4)
    offer_all(league, range(4))
    met = Counter(league.opponent(key(g, m)).policy_version for g in range(250) for m in range(4))
    assert sorted(met) == [0, 1, 2, 3]
    assert min(met.values()) > 200
    other = League(max_size=4, seed=1)
    offer_all(other, range(4))
    assert any(
        other.opponent(key(g)).policy_version != league.opponent(key(g)).policy_version
        for g in range(10)
    )


@pytest.mark.parametrize("bad", [{"every": 0}, {"max_size": 1}, {"max_lag": -1}])
def test_numbers_out_of_range_are_refused(bad):
    with pytest.raises(ConfigError, match=rf"League\.{next(iter(bad))}: expected \d or more; got"):
        League(**bad)


def test_versions_are_offered_in_order_and_the_newest_may_come_again():
    league = League()
    again = policy(3)
    league.offer(3, policy(3))
    assert league.offer(3, again)
    assert league.opponent(key(0)) is again
    with pytest.raises(RequestError, match="a version of 3 or more; got 2"):
        league.offer(2, policy(2))


def test_an_opponent_acts_in_an_episode_with_numbers_of_its_own(service):
    client = service.create_sampling_client(base_model="tiny")
    own = FrozenPolicy(client, max_tokens=20, policy_version=0)
    league = League()
    league.offer(0, own)

    async def act(completer):
        return await completer(ModelInput.from_ints([5, 6, 7]), [])

    opponents = [anyio.run(act, league.completer(key(0))) for _ in range(2)]
    assert opponents[0] == opponents[1]
    assert opponents[0].policy_version == 0
    assert opponents[0].tokens != anyio.run(act, own.completer(key(0))).tokens
