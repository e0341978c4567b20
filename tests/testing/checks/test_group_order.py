"""Rewards of a group follow its episodes: what is found, and what is no finding."""

import statistics

import pytest

from tinker_rl.envs import EnvGroupBuilder, current_rng
from tinker_rl.testing import EnvCheckError, check_env

from .walk import Walk

SIZE = 3
STEPS = [[1, 0], [2, 0], [3, 0]]
"""How far one goes in a turn."""


class Group(EnvGroupBuilder):
    """Rewards by how far each went."""

    size = SIZE

    async def make_envs(self):
        return [Walk() for _ in range(self.size)]

    async def compute_group_rewards(self, trajectories, envs):
        return [(float(reward), {}) for reward in self.rewards([sum(env.path) for env in envs])]

    def rewards(self, far):
        """What each earns."""
        mean = statistics.fmean(far)
        return [each - mean for each in far]


def check(builder, **options):
    order = ["rewards_of_some", "rewards_in_order"]
    options = {"properties": order, "valid_actions": STEPS, "max_examples": 20, **options}
    return check_env(builder, renderer=20, **options)


class InOrderOfDistance(Group):
    def rewards(self, far):
        return super().rewards(sorted(far))


class OnlyTheBestAtTheEnd(Group):
    def rewards(self, far):
        return [far_one * (far_one > statistics.fmean(far)) for far_one in sorted(far)]


@pytest.mark.parametrize("builder", [InOrderOfDistance, OnlyTheBestAtTheEnd])
def test_rewards_that_are_sorted_are_found_with_both_plays(builder):
    with pytest.raises(EnvCheckError) as caught:
        check(builder)
    error = caught.value
    assert error.property == "rewards_in_order"
    assert error.finding.startswith(
        f"{builder.__name__}.compute_group_rewards: expected the reward"
    )
    first, moved = error.transcript.split("and each as the one before it, the first as the last:")
    assert first.startswith("as the case has it:")
    (rewards,) = (line for line in first.splitlines() if "group rewards: " in line)
    assert rewards in moved
    with pytest.raises(EnvCheckError) as again:
        check(builder, replay=error.replay)
    assert str(again.value) == str(error)


class FirstOfTheBest(Group):
    """The first of those who went farthest takes it all."""

    def rewards(self, far):
        best = far.index(max(far))
        return [n == best for n in range(len(far))]


class FirstOfTheBestWhoWentFar(Group):
    def rewards(self, far):
        best = far.index(max(far)) if max(far) > 1 else -1
        return [n == best for n in range(len(far))]


class Drawn(Group):
    """One of the best is drawn."""

    def rewards(self, far):
        best = current_rng().choice([n for n, each in enumerate(far) if each == max(far)])
        return [n == best for n in range(len(far))]


class Ranks(Group):
    def rewards(self, far):
        order = sorted(range(len(far)), key=lambda n: far[n])
        return [order.index(n) for n in range(len(far))]


class New(Group):
    """Going as far as nobody before earns something; the first earns nothing."""

    def rewards(self, far):
        return [n > 0 and each not in far[:n] for n, each in enumerate(far)]


class FarFromTheFirst(Group):
    def rewards(self, far):
        return [abs(each - far[0]) for each in far]


class Neighbours(Group):
    def rewards(self, far):
        return [each > far[n - 1] for n, each in enumerate(far)]


class AlwaysTheLaterOne(Group):
    """Each two are compared by a judge who prefers whom it saw last, unless they are the same."""

    def rewards(self, far):
        return [sum(each != other for other in far[:n]) for n, each in enumerate(far)]


class Handicap(Group):
    def rewards(self, far):
        return [each - n for n, each in enumerate(far)]


class ByPlace(Group):
    def rewards(self, far):
        return range(len(far))


class SharesOfAPot(Group):
    """A team earns for how much its members differ, split by their roles."""

    def rewards(self, far):
        pot = len(set(far)) - 1
        return [pot * (n + 1) for n, _ in enumerate(far)]


class CoinsDealtRound(Group):
    def rewards(self, far):
        coins = len(set(far)) - 1
        return [coins // len(far) + (n < coins % len(far)) for n, _ in enumerate(far)]


class OnePaysForAll(Group):
    def rewards(self, far):
        who = current_rng().randrange(len(far))
        return [-float(n == who and len(set(far)) > 1) for n, _ in enumerate(far)]


FAIR = [
    Group,
    FirstOfTheBest,
    FirstOfTheBestWhoWentFar,
    Drawn,
    Ranks,
    New,
    FarFromTheFirst,
    Neighbours,
    AlwaysTheLaterOne,
    Handicap,
    ByPlace,
    SharesOfAPot,
    CoinsDealtRound,
    OnePaysForAll,
]


@pytest.mark.parametrize("builder", FAIR)
def test_a_builder_that_goes_by_places_is_no_finding(builder):
    report = check(builder)
    assert min(report.checked.values()) > 0
    check(builder, valid_actions=None)


def test_members_who_cannot_be_told_apart_are_not_compared():
    class Linked(InOrderOfDistance):
        linked = True

    class Pair(InOrderOfDistance):
        size = 2

    class Nothing(Group):
        compute_group_rewards = EnvGroupBuilder.compute_group_rewards

    assert "are linked" in check(Linked).skipped["rewards_in_order"]
    assert "three members or more" in check(Pair).skipped["rewards_of_some"]
    assert "no rewards to the group" in check(Nothing).skipped["rewards_in_order"]
    random = check(InOrderOfDistance, deterministic=False)
    assert random.skipped == {"rewards_in_order": "deterministic=False was given"}


def test_a_group_that_cannot_do_without_a_member_says_that_it_is_linked():
    class Three(Group):
        def rewards(self, far):
            first, second, third = far
            return [first > second, second > third, third > first]

    with pytest.raises(EnvCheckError, match="set linked = True on it") as caught:
        check(Three)
    assert caught.value.property == "rewards_of_some"
    assert caught.value.location.endswith(f":{Three.rewards.__code__.co_firstlineno + 1}")
