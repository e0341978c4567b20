"""The mailbox against a list of what was offered."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tinker_rl.actors import Mailbox


class MailboxMachine(RuleBasedStateMachine):
    """Items are numbers in the order of their offers; the model is the list of those still here."""

    @initialize(capacity=st.integers(0, 4))
    def open(self, capacity):
        self.admitted = []
        self.mailbox = Mailbox(capacity, on_admitted=self.admitted.append)
        self.here = []
        self.num_offered = 0
        self.entered = set()  # told to be in the queue, by offer or by on_admitted

    @rule(num_items=st.integers(1, 5))
    def offer(self, num_items):
        for _ in range(num_items):
            self.offer_one()

    def offer_one(self):
        item = self.num_offered
        self.num_offered += 1
        had_room = self.mailbox.has_room
        is_queued = self.mailbox.offer(item)
        assert is_queued == had_room == (len(self.here) < self.mailbox.capacity)
        self.here.append(item)
        if is_queued:
            self.entered.add(item)

    @rule()
    def take(self):
        expected = self.here.pop(0) if self.here else None
        assert self.mailbox.take() == expected
        self.settle()
        assert expected is None or expected in self.entered

    @rule(data=st.data())
    @precondition(lambda self: self.num_offered > 0)
    def withdraw(self, data):
        item = data.draw(st.integers(0, self.num_offered - 1))
        assert self.mailbox.withdraw(item) == (item in self.here)
        if item in self.here:
            self.here.remove(item)
        self.settle()

    def teardown(self):
        if not hasattr(self, "mailbox"):
            return
        self.mailbox.close()
        assert not self.mailbox.is_open
        assert not self.mailbox.has_room
        assert self.mailbox.num_queued + self.mailbox.num_in_line == len(self.here)
        assert self.mailbox.clear() == self.here
        assert self.mailbox.is_empty
        assert self.mailbox.take() is None

    def settle(self):
        for item in self.admitted:
            assert item not in self.entered, "admitted twice"
            self.entered.add(item)
        self.admitted.clear()

    @invariant()
    def queue_is_bounded_and_full_before_anybody_waits(self):
        mailbox = self.mailbox
        assert mailbox.num_queued == min(len(self.here), mailbox.capacity)
        assert mailbox.num_in_line == len(self.here) - mailbox.num_queued
        assert mailbox.is_empty == (not self.here)

    @invariant()
    def exactly_the_oldest_were_told_that_they_are_in(self):
        assert {item for item in self.here if item in self.entered} == set(
            self.here[: self.mailbox.capacity]
        )


MailboxMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMailbox = MailboxMachine.TestCase


@given(capacity=st.integers(max_value=-1))
def test_a_negative_capacity_is_refused(capacity):
    with pytest.raises(ValueError, match="expected a capacity of 0 or more"):
        Mailbox(capacity, on_admitted=lambda item: None)
