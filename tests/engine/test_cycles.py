from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tinker_rl.engine.cycles import ClockCycles

MODELS = "abc"
MAX_PER_VISIT = 3


class ClockCyclesMachine(RuleBasedStateMachine):
    """Items are (model, number in the order of that model, whether joined to the one before)."""

    def __init__(self):
        super().__init__()
        self.cycles = ClockCycles(MAX_PER_VISIT, joined=lambda item: item[2])
        self.put = dict.fromkeys(MODELS, 0)
        self.taken = {model: [] for model in MODELS}
        self.queued_with_last = {}
        self.served_while_waiting = {}
        self.in_a_row = (None, 0)  # model, items it had while others waited

    def waiting(self, model):
        return self.put[model] - len(self.taken[model])

    def queue(self, model, joined):
        if not self.waiting(model):
            self.served_while_waiting[model] = dict.fromkeys(MODELS, 0)
        self.cycles.put(model, (model, self.put[model], joined))
        self.put[model] += 1

    @rule(model=st.sampled_from(MODELS), count=st.integers(1, 5))
    def put_some(self, model, count):
        for _ in range(count):
            self.queue(model, joined=False)

    @rule(model=st.sampled_from(MODELS))
    def put_pair(self, model):
        self.queue(model, joined=False)
        self.queue(model, joined=True)

    @rule(model=st.sampled_from(MODELS))
    def put_joined(self, model):
        self.queue(model, joined=True)

    @rule()
    def take(self):
        waited = [model for model in MODELS if self.waiting(model)]
        before = self.cycles.cycle
        item = self.cycles.next()
        if not waited:
            assert item is None
            assert self.cycles.cycle == before
            return
        model, number, joined = item
        cycle = self.cycles.cycle
        assert cycle in (before, before + 1)
        assert number == len(self.taken[model])  # in order, nothing lost, nothing twice
        self.taken[model].append((joined, cycle))
        for other in waited:
            if other != model:
                self.served_while_waiting[other][model] += 1
        self.served_while_waiting[model] = dict.fromkeys(MODELS, 0)
        last, items = self.in_a_row
        items = (items if model == last else 0) + (len(waited) > 1)
        self.in_a_row = (model, items)
        assert items <= MAX_PER_VISIT + joined
        if joined and number and self.queued_with_last.get(model):
            before_it_joined, its_cycle = self.taken[model][-2]
            assert its_cycle == cycle or before_it_joined
        self.queued_with_last[model] = self.waiting(model) > 0
        # Who waits is passed over by the rest of this cycle and by one cycle more, at worst.
        for other, served in self.served_while_waiting.items():
            if self.waiting(other):
                assert all(n <= 2 * (MAX_PER_VISIT + 1) for n in served.values())

    @rule()
    def take_all(self):
        while any(map(self.waiting, MODELS)):
            self.take()
        assert self.cycles.next() is None

    @invariant()
    def the_length_is_what_waits(self):
        assert len(self.cycles) == sum(map(self.waiting, MODELS))


ClockCyclesMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)
TestClockCycles = ClockCyclesMachine.TestCase


@given(queued=st.lists(st.tuples(st.sampled_from(MODELS), st.integers(0, 200)), max_size=5))
def test_a_pair_queued_back_to_back_falls_into_one_cycle(queued):
    cycles = ClockCycles(joined=lambda item: item == "optim_step")
    for model, count in queued:
        for _ in range(count):
            cycles.put(model, "forward_backward")
    cycles.put("a", "forward_backward")
    cycles.put("a", "optim_step")
    seen = []
    while (item := cycles.next()) is not None:
        seen.append((item, cycles.cycle))
    (at,) = (i for i, (item, _) in enumerate(seen) if item == "optim_step")
    assert seen[at - 1] == ("forward_backward", seen[at][1])


def test_what_arrives_during_a_visit_belongs_to_it():
    cycles = ClockCycles()
    cycles.put("a", 1)
    cycles.put("b", 2)
    assert cycles.next() == 1
    cycles.put("a", 3)
    assert cycles.next() == 3
    assert cycles.next() == 2
    assert cycles.cycle == 1


def test_none_has_two_turns_in_a_row_while_others_wait():
    cycles = ClockCycles(max_per_visit=2)
    for _ in range(6):
        cycles.put("a", "a")
    assert cycles.next() == "a"
    cycles.put("b", "b")
    assert [cycles.next() for _ in range(6)] == ["a", "b", "a", "a", "a", "a"]


def test_models_with_much_to_do_alternate():
    cycles = ClockCycles(max_per_visit=1)
    for number in range(4):
        cycles.put("a", ("a", number))
        cycles.put("b", ("b", number))
    order = [cycles.next()[0] for _ in range(8)]
    assert order == ["a", "b"] * 4
