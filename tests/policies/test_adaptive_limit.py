"""The adaptive limit against simulated samplers whose best limit is known."""

import heapq
import random
import statistics

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinker_rl.errors import ConfigError
from tinker_rl.policies import AdaptiveLimit, FixedLimit

settings.register_profile("limits", parent=settings.default, deadline=None, max_examples=40)
settings.load_profile("limits")

MAXIMUM = 64


def flat_after(knee):
    """Tokens a second with n requests at once: more with each up to the knee, then no more."""
    return lambda n: 10.0 * min(n, knee)


def falling_after(knee):
    return lambda n: 10.0 * (n if n <= knee else knee * (knee / n) ** 0.5)


class Sampler:
    """Shares its throughput among the requests it has; there are always more than it may have."""

    def __init__(self, throughput, limit, seed):
        self.throughput = throughput
        self.limit = limit
        self.random = random.Random(seed)
        self.seconds = 0.0
        self.shared = 0.0
        """Tokens that a request which is there from the start would have by now."""
        self.running = []
        self.is_broken = False
        self.values = []

    def fill(self):
        while len(self.running) < self.limit.value:
            length = max(1, int(self.random.lognormvariate(5, 1)))
            request = (length, self.seconds, self.limit.started())
            heapq.heappush(self.running, (self.shared + length, self.random.random(), request))

    def serve(self, num_requests):
        for _ in range(num_requests):
            self.fill()
            end, _, (length, began_at, mark) = self.running[0]
            rate = self.throughput(len(self.running)) / len(self.running)
            self.seconds += (end - self.shared) / rate
            self.shared = end
            if self.is_broken:
                self.limit.failed(mark)
            else:
                self.limit.finished(
                    mark,
                    num_tokens=length,
                    seconds=self.seconds - began_at,
                    num_in_flight=len(self.running),
                )
            heapq.heappop(self.running)
            self.values.append(self.limit.value)


def is_near(knee, value):
    return knee / 2 <= value <= max(2 * knee, knee + 1)


def settled(simulated):
    """Its usual limit from here on, trials left out."""
    simulated.values.clear()
    simulated.serve(2000)
    return statistics.median(simulated.values)


samplers = st.builds(
    lambda kind, knee: (kind(knee), knee),
    st.sampled_from([flat_after, falling_after]),
    st.integers(1, 50),
)


@given(sampler=samplers, initial=st.integers(1, MAXIMUM), seed=st.integers(0, 99))
def test_it_finds_the_knee_within_a_factor_of_two_and_stays_near(sampler, initial, seed):
    throughput, knee = sampler
    limit = AdaptiveLimit(initial, maximum=MAXIMUM)
    simulated = Sampler(throughput, limit, seed)
    simulated.serve(5000)
    simulated.values.clear()
    simulated.serve(4000)
    assert is_near(knee, statistics.median(simulated.values))
    # A trial goes one step beyond.
    assert knee / 3 <= min(simulated.values)
    assert max(simulated.values) <= 1.5 * max(2 * knee, knee + 1)


@given(sampler=samplers, seed=st.integers(0, 99), num_faults=st.integers(1, 2000))
def test_it_comes_back_from_a_fault(sampler, seed, num_faults):
    throughput, knee = sampler
    simulated = Sampler(throughput, AdaptiveLimit(maximum=MAXIMUM), seed)
    simulated.serve(1000)
    simulated.is_broken = True
    simulated.serve(num_faults)
    simulated.is_broken = False
    simulated.serve(5000)
    assert is_near(knee, settled(simulated))


@given(sampler=samplers, later=samplers, seed=st.integers(0, 99))
def test_it_follows_a_sampler_that_becomes_another(sampler, later, seed):
    simulated = Sampler(sampler[0], AdaptiveLimit(maximum=MAXIMUM), seed)
    simulated.serve(5000)
    simulated.throughput, knee = later
    simulated.serve(12_000)
    assert is_near(knee, settled(simulated))


@given(initial=st.integers(2, MAXIMUM), num_in_flight=st.integers(2, MAXIMUM))
def test_faults_of_the_same_moment_count_once(initial, num_in_flight):
    limit = AdaptiveLimit(initial, maximum=MAXIMUM)
    marks = [limit.started() for _ in range(num_in_flight)]
    for mark in marks:
        limit.failed(mark)
    assert limit.value == initial // 2
    limit.failed(limit.started())
    assert limit.value == max(1, initial // 4)


events = st.one_of(
    st.tuples(st.just("start")),
    st.tuples(
        st.just("finish"),
        st.integers(0, 99),
        st.integers(0, 1000),
        st.floats(0, 1e6) | st.just(-1.0),
        st.integers(-1, 1),
    ),
    st.tuples(st.just("fail"), st.integers(0, 99)),
)


@given(
    bounds=st.lists(st.integers(1, 6), min_size=3, max_size=3).map(sorted),
    events=st.lists(events, max_size=400),
)
@example(bounds=[1, 1, 1], events=[("start",), *[("finish", 0, 0, 0.0, 0)] * 99])
@example(bounds=[1, 2, 3], events=[("start",), ("finish", 0, 9, 0.0, 0), ("fail", 0)] * 99)
def test_it_is_always_within_its_bounds(bounds, events):
    least, initial, most = bounds
    limit = AdaptiveLimit(initial, minimum=least, maximum=most)
    marks = [limit.started()]
    for what, *details in events:
        if what == "start":
            marks.append(limit.started())
        elif what == "fail":
            limit.failed(marks[details[0] % len(marks)])
        else:
            place, num_tokens, seconds, off = details
            limit.finished(
                marks[place % len(marks)],
                num_tokens=num_tokens,
                seconds=seconds,
                num_in_flight=limit.value + off,
            )
        assert least <= limit.value <= most


@given(demand=st.integers(1, 63))
def test_a_limit_that_is_not_reached_is_not_changed(demand):
    limit = AdaptiveLimit(64)
    for _ in range(1000):
        limit.finished(limit.started(), num_tokens=5, seconds=1.0, num_in_flight=demand)
    assert limit.value == 64


def test_a_fixed_limit_stays():
    limit = FixedLimit(7)
    limit.failed(limit.started())
    limit.finished(limit.started(), num_tokens=5, seconds=1.0, num_in_flight=7)
    assert limit.value == 7


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: FixedLimit(0),
        lambda: AdaptiveLimit(0),
        lambda: AdaptiveLimit(4, minimum=5),
        lambda: AdaptiveLimit(8, maximum=7),
    ],
)
def test_bounds_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"expected .*1.*; got"):
        wrong()
