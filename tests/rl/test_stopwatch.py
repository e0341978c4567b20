from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.rl.stopwatch import Stopwatch

gaps = st.integers(0, 9)


class Clock:
    now = 0

    def __call__(self):
        return self.now


@given(
    steps=st.lists(
        st.tuples(st.lists(gaps, min_size=1, max_size=12), gaps, gaps), min_size=1, max_size=4
    )
)
def test_the_parts_of_a_step_are_all_of_its_time(steps):
    clock, group = Clock(), 0
    watch = Stopwatch(now=clock)
    watch.start()
    for step, (finishing, training, publishing) in enumerate(steps):
        start = clock.now
        numbers = range(group, group + len(finishing))
        for number, gap in zip(numbers, finishing, strict=True):
            clock.now += gap
            watch.group_finished(number)
        group += len(finishing)
        watch.batch_complete(step, numbers)
        clock.now += training
        watch.trained()
        clock.now += publishing
        watch.published()
        metrics = watch.metrics(6)
        waited = sum(finishing)
        num_most = -(-9 * len(finishing) // 10)
        assert metrics["time/sampling"] == waited
        assert metrics["time/stragglers"] == sum(finishing[num_most:])
        assert (metrics["time/train"], metrics["time/publish"]) == (training, publishing)
        assert metrics["time/total"] == clock.now - start
        if clock.now > start:
            assert metrics["sampling/tokens_per_second"] == 6 / (clock.now - start)


def test_groups_that_were_ready_before_the_step_began_cost_it_nothing():
    clock = Clock()
    watch = Stopwatch(now=clock)
    watch.start()
    for number in range(4):
        watch.group_finished(number)
    clock.now = 5
    for step, numbers in enumerate([[0, 1], [2, 3], [4]]):  # the last is of an earlier start
        watch.batch_complete(step, numbers)
        watch.trained()
        clock.now += 1
        watch.published()
    assert watch.metrics(0)["time/sampling"] == 0
    assert watch.metrics(0)["time/stragglers"] == 0
