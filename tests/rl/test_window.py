"""Conservation laws of the window, over random schedules of every kind."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tinker_rl.errors import ConfigError
from tinker_rl.rl.window import Commit, Window


class Schedule(RuleBasedStateMachine):
    """Admits, finishes, hands out and publishes in any order the window allows."""

    @initialize(
        num_minibatches=st.integers(1, 3),
        groups_per_minibatch=st.integers(1, 3),
        bound=st.integers(0, 3),
        num_batches=st.integers(0, 6),
        data=st.data(),
        lag=st.sampled_from(["newest", "fixed"]),
        straggler=st.sampled_from(["wait", "mask"]),
        masked=st.sampled_from([0.0, 0.4, 1.0]),
    )
    def start(
        self,
        num_minibatches,
        groups_per_minibatch,
        bound,
        num_batches,
        data,
        lag,
        straggler,
        masked,
    ):
        self.size = num_minibatches * groups_per_minibatch
        self.bound = bound
        self.num_batches = num_batches
        self.lag = lag
        self.waits = straggler == "wait" or lag == "fixed"
        self.first = data.draw(st.integers(0, num_batches), label="first_batch")
        self.masked = int(masked * self.size)
        self.draw_earlier_start(data)
        self.window = Window(
            self.size,
            bound,
            num_batches,
            first_batch=self.first,
            num_minibatches=num_minibatches,
            lag=lag,
            straggler="wait" if self.waits else "mask",
            max_masked_fraction=masked,
            finished={group: f"group {group}" for group, _ in self.finished},
            trained=self.trained_before,
            mute=self.mute,
        )
        self.in_flight = {}
        self.versions = {}
        self.minibatches = []
        self.in_flight_at_last = {}
        self.published = self.acting = self.first

    def draw_earlier_start(self, data):
        """What a run that was cut off at version `first` may have left behind."""
        num_groups = self.num_batches * self.size
        num_trained = self.first * self.size
        admitted = range(min(num_groups, (self.first + self.bound) * self.size))
        order = list(admitted) if self.waits else data.draw(st.permutations(admitted))
        self.trained_before = set(order[:num_trained])
        later = range(min(num_groups, (self.first + self.bound + 1) * self.size))
        left = sorted(set(later) - self.trained_before)
        kept = data.draw(st.sets(st.sampled_from(left))) if left else set()
        self.finished = [(group, False) for group in sorted(kept)]
        self.finished_before = frozenset(kept)
        self.to_admit = sorted(set(range(num_groups)) - self.trained_before - kept)
        versions = st.sets(st.integers(1, self.first - 1)) if self.first > 1 else st.just(set())
        self.mute = data.draw(versions, label="mute")

    @precondition(lambda self: self.window.is_admissible)
    @rule()
    def admit(self):
        ticket = self.window.admit()
        assert ticket.group == self.to_admit.pop(0)
        if self.lag == "fixed":
            bound = max(0, ticket.group // self.size - self.bound)
            expected = max(v for v in range(bound + 1) if v not in self.mute)
        else:
            expected = self.acting
        assert ticket.policy_version == expected
        self.in_flight[ticket.group] = ticket
        self.versions[ticket.group] = ticket.policy_version

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), failed=st.booleans())
    def finish(self, data, failed):
        group = data.draw(st.sampled_from(sorted(self.in_flight)), label="group")
        del self.in_flight[group]
        self.window.finish(group, None if failed else f"group {group}")
        self.finished.append((group, failed))

    @rule()
    def hand_out(self):
        expected = self.can_hand_out()
        minibatch = self.window.next_minibatch()
        assert (minibatch is not None) == expected
        if minibatch is not None:
            self.hand(minibatch)

    def hand(self, minibatch):
        self.minibatches.append(minibatch)
        if minibatch.is_last:
            self.in_flight_at_last[minibatch.batch] = set(self.in_flight)

    @precondition(lambda self: self.num_complete_batches > self.published)
    @rule(data=st.data(), acts=st.booleans())
    def publish(self, data, acts):
        versions = st.integers(self.published + 1, self.num_complete_batches)
        self.publish_version(data.draw(versions, label="version"), acts)

    def publish_version(self, version, acts):
        if acts:
            self.acting = version
        else:
            self.mute |= set(range(self.published + 1, version + 1))
        self.published = version
        self.window.publish(Commit(version=version, acting_version=self.acting))
        assert self.window.published_version == self.published
        assert self.window.acting_version == self.acting

    @property
    def num_complete_batches(self):
        return self.first + sum(minibatch.is_last for minibatch in self.minibatches)

    @property
    def trained(self):
        return [group for minibatch in self.minibatches for group in minibatch.groups]

    @invariant()
    def slots_taken_are_groups_not_yet_published(self):
        released = (self.published - self.first) * self.size
        before = len(self.finished_before)
        assert self.window.num_slots_taken == before + len(self.versions) - released
        assert 0 <= self.window.num_slots_taken <= self.window.num_slots
        assert self.window.num_in_flight == len(self.in_flight)
        waiting = len(self.finished) - len(self.trained)
        handed_out = len(self.trained) - released
        assert self.window.num_slots_taken == len(self.in_flight) + waiting + handed_out

    @invariant()
    def nothing_trains_twice_and_nothing_unfinished_trains(self):
        assert len(set(self.trained)) == len(self.trained)
        assert set(self.trained) <= {group for group, _ in self.finished}

    @invariant()
    def every_result_reaches_its_own_group(self):
        failed = dict(self.finished)
        for minibatch in self.minibatches:
            assert len(minibatch.groups) == len(minibatch.results)
            for group, result in zip(minibatch.groups, minibatch.results, strict=True):
                assert result == (None if failed[group] else f"group {group}")

    @invariant()
    def batches_are_in_admission_order_and_age_is_bounded(self):
        if not self.waits:
            return
        first = self.first * self.size
        assert self.trained == list(range(first, first + len(self.trained)))
        for minibatch in self.minibatches:
            for group in set(minibatch.groups) - self.finished_before:
                assert minibatch.batch == group // self.size
                age = minibatch.batch - self.versions[group]
                # A resumed run begins at the bound, never beyond it, unless versions do not act.
                assert 0 <= age <= self.bound + len(self.mute)
                skipped = range(self.versions[group] + 1, minibatch.batch - self.bound + 1)
                assert set(skipped) <= self.mute

    @invariant()
    def a_masking_batch_leaves_no_more_groups_to_go_over_age_than_it_may(self):
        if self.waits:
            return
        for number, minibatch in enumerate(self.minibatches):
            if not minibatch.is_last:
                continue
            later = {g for rest in self.minibatches[number + 1 :] for g in rest.groups}
            last_chance = minibatch.batch - self.bound
            in_flight = self.in_flight_at_last[minibatch.batch]
            left = [g for g in later & in_flight if self.versions[g] == last_chance]
            assert len(left) <= self.masked

    @invariant()
    def versions_in_use_are_kept(self):
        oldest = self.window.oldest_version_in_use
        assert oldest <= self.acting <= self.published
        assert all(ticket.policy_version >= oldest for ticket in self.in_flight.values())
        if self.lag == "fixed":
            untrained = self.versions.keys() - set(self.trained)
            oldest = self.window.oldest_version_untrained
            assert all(self.versions[group] >= oldest for group in untrained)

    @invariant()
    def something_can_always_happen_until_the_end(self):
        if self.window.is_done and self.published == self.num_batches:
            return
        can_hand_out = self.can_hand_out()
        can_publish = self.num_complete_batches > self.published
        assert self.window.is_admissible or self.in_flight or can_hand_out or can_publish

    def can_hand_out(self):
        """What the definition says, computed apart from the window."""
        waiting = sorted({group for group, _ in self.finished} - set(self.trained))
        size = self.size // self.window._num_minibatches
        if self.window.is_done or len(waiting) < size:
            return False
        first = self.first * self.size + len(self.trained)
        if not self.waits:
            batch, place = divmod(first, self.size)
            too_late_soon = [
                group for group in self.in_flight if self.versions[group] == batch - self.bound
            ]
            places_left = self.size - place - size
            return len(too_late_soon) <= self.masked + places_left
        return waiting[:size] == list(range(first, first + size))

    def teardown(self):
        """However it began, the run can be driven to its end."""
        if not hasattr(self, "window"):
            return
        window = self.window
        for _ in range(10_000):
            if window.is_done and self.published == self.num_batches:
                break
            if window.is_admissible:
                self.admit()
            elif self.in_flight:
                group = max(self.in_flight)
                del self.in_flight[group]
                window.finish(group, f"group {group}")
                self.finished.append((group, False))
            while (minibatch := window.next_minibatch()) is not None:
                self.hand(minibatch)
            if self.num_complete_batches > self.published:
                self.publish_version(self.num_complete_batches, acts=False)
        everything = set(range(self.num_batches * self.size))
        assert set(self.trained) | self.trained_before == everything
        assert not set(self.trained) & self.trained_before
        assert window.num_slots_taken == 0


TestSchedule = Schedule.TestCase
TestSchedule.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_on_policy_admits_one_batch_and_then_waits_for_its_version():
    window = Window(2, 0, 3)
    first, second = window.admit(), window.admit()
    assert not window.is_admissible
    window.finish(second.group, "b")
    assert window.next_minibatch() is None
    window.finish(first.group, "a")
    batch = window.next_minibatch()
    assert batch is not None
    assert (batch.batch, batch.groups, batch.results) == (0, (0, 1), ("a", "b"))
    assert not window.is_admissible
    window.publish(Commit(version=1, acting_version=1))
    assert window.admit().policy_version == 1


@pytest.mark.parametrize("lag", ["newest", "fixed"])
def test_a_version_that_does_not_act_gives_its_slots_back_to_groups_of_the_one_before(lag):
    window = Window(1, 0, 4, lag=lag)
    started_with = []
    for version, acting in ((1, 1), (2, 1), (3, 1), (4, 4)):
        started_with.append(window.admit().policy_version)
        assert not window.is_admissible
        assert window.oldest_version_in_use == started_with[-1]
        window.finish(version - 1, None)
        assert window.next_minibatch() is not None
        window.publish(Commit(version=version, acting_version=acting))
    assert started_with == [0, 1, 1, 1]
    assert window.num_slots_taken == 0
    assert window.oldest_version_in_use == 4


def test_minibatches_are_handed_out_before_their_batch_is_complete():
    window = Window(4, 0, 1, num_minibatches=2)
    for _ in range(4):
        window.admit()
    window.finish(1, None)
    assert window.next_minibatch() is None
    window.finish(0, None)
    first = window.next_minibatch()
    assert first is not None
    assert first.groups == (0, 1)
    assert not first.is_last
    window.finish(3, None)
    window.finish(2, None)
    second = window.next_minibatch()
    assert second is not None
    assert (second.batch, second.index, second.is_last) == (0, 1, True)


def test_masking_stragglers_fills_a_batch_with_whichever_groups_are_finished():
    window = Window(2, 1, 2, straggler="mask")
    for _ in range(4):
        window.admit()
    window.finish(3, "d")
    window.finish(1, "b")
    batch = window.next_minibatch()
    assert batch is not None
    assert batch.groups == (1, 3)


def test_masking_waits_where_more_groups_would_go_over_age_than_may():
    window = Window(4, 0, 3, straggler="mask", max_masked_fraction=0.25, num_minibatches=2)
    for _ in range(4):
        window.admit()
    window.finish(2, "c")
    window.finish(3, "d")
    assert window.next_minibatch() is not None  # the two in flight fit into what is left
    window.finish(1, "b")
    assert window.next_minibatch() is None  # a minibatch takes two
    window.finish(0, "a")
    assert window.next_minibatch() is not None


@given(
    options=st.sampled_from(
        [
            {"groups_per_batch": 0},
            {"max_steps_off_policy": -1},
            {"num_batches": -1},
            {"first_batch": -1},
            {"first_batch": 6},
            {"num_minibatches": 0},
            {"num_minibatches": 3},
            {"lag": "fixed", "straggler": "mask"},
            {"max_masked_fraction": 1.5},
        ]
    )
)
def test_options_that_do_not_fit_are_refused_with_their_name(options):
    arguments = {"groups_per_batch": 4, "max_steps_off_policy": 1, "num_batches": 5} | options
    with pytest.raises(ConfigError, match=r"expected .*; got"):
        Window(**arguments)


def test_with_a_fixed_lag_no_group_goes_back_behind_the_oldest_version():
    window = Window(2, 2, 6, first_batch=3, oldest_version=3, lag="fixed")
    assert window.oldest_version_in_use == 3
    versions = []
    for version in (3, 4, 5):
        while window.is_admissible:
            ticket = window.admit()
            versions.append(ticket.policy_version)
            window.finish(ticket.group, None)
        assert window.next_minibatch() is not None
        window.publish(Commit(version=version + 1, acting_version=version + 1))
    assert versions == [3] * 6
