"""What ends a sequence before its limit: stops of both kinds, and cancellations."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl.engine.samplers.base import StopRule
from tinker_rl.tokenizers import get_tokenizer

PROMPTS = [(5,), tuple(range(20, 60)), tuple(range(100, 230))]


# ----------------------------------------------------------------------------------------- stops


@pytest.fixture(scope="module")
def unstopped(make_sampler, make_job, drain):
    """What a job of that seed comes to when nothing stops it."""
    known = {}

    def unstopped(seed):
        if seed not in known:
            sampler = make_sampler()
            sampler.add(make_job(0, (1, 2), seed=seed, max_tokens=24, temperature=1.5))
            known[seed] = drain(sampler)[0].sequences[0].tokens
        return known[seed]

    return unstopped


def stopped(sampler, make_job, drain, cases):
    """What jobs of these seeds and stops come to, beside each other and one without a stop."""
    for number, (seed, stop) in enumerate(cases):
        fields = {"seed": seed, "max_tokens": 24, "temperature": 1.5, "stop": stop}
        sampler.add(make_job(number, (1, 2), **fields))
    sampler.add(make_job(len(cases), (3,), seed=1, max_tokens=24))
    done = drain(sampler)
    sequences = [done[number].sequences[0] for number in range(len(cases))]
    assert all(len(each.logprobs) == len(each.tokens) for each in sequences)
    return [(each.stop_reason, each.tokens) for each in sequences]


seeds = st.lists(st.integers(0, 3), min_size=1, max_size=6)


@given(seeds=seeds, data=st.data(), others=st.lists(st.integers(0, 1023), max_size=3))
@settings(max_examples=7, derandomize=True)
def test_a_stop_token_ends_the_sequence_and_is_its_last(
    make_sampler, make_job, drain, unstopped, seeds, data, others
):
    cases, expected = [], []
    for seed in seeds:
        tokens = unstopped(seed)
        ids = {data.draw(st.sampled_from(tokens)), *others}
        end = next(at for at, token in enumerate(tokens) if token in ids)
        cases.append((seed, StopRule(token_ids=tuple(ids))))
        expected.append(("stop", tokens[: end + 1]))
    assert stopped(make_sampler(), make_job, drain, cases) == expected


@given(seeds=seeds, data=st.data(), other=st.sampled_from(["", "never there", "zq"]))
@settings(max_examples=10, derandomize=True)
def test_a_stop_string_ends_the_sequence_with_the_token_that_completes_it(
    make_sampler, make_job, drain, unstopped, seeds, data, other
):
    decode = get_tokenizer("tiny").decode
    cases, expected = [], []
    for seed in seeds:
        tokens = unstopped(seed)
        text = decode(tokens)
        start = data.draw(st.integers(0, len(text) - 1))
        string = text[start : start + data.draw(st.integers(1, 6))]  # may span tokens
        strings = (string, other) if other else (string,)
        texts = [decode(tokens[:count]) for count in range(1, len(tokens) + 1)]
        found = [count for count, text in enumerate(texts, 1) if any(s in text for s in strings)]
        cases.append((seed, StopRule(strings=strings)))
        expected.append(("stop", tokens[: found[0]]))
    assert stopped(make_sampler(), make_job, drain, cases) == expected


def test_without_a_stop_the_sequence_runs_to_its_limit(make_sampler, make_job, drain, unstopped):
    cases = [(0, StopRule(strings=("never there",)))]
    assert stopped(make_sampler(), make_job, drain, cases) == [("length", unstopped(0))]


# -------------------------------------------------------------------------------- cancellations


@pytest.fixture(scope="module")
def six(make_sampler, make_job, drain):
    """Jobs, and what each comes to when none is cancelled."""
    jobs = [make_job(n, PROMPTS[n % 3], num_samples=3, max_tokens=5) for n in range(6)]
    sampler = make_sampler()
    for job in jobs:
        sampler.add(job)
    return jobs, drain(sampler)


@given(
    cancels=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), max_size=8),
    rows=st.integers(1, 6),
)
@settings(max_examples=10, derandomize=True)
def test_a_cancelled_job_frees_its_rows_and_the_others_go_on(
    make_sampler, drain, six, cancels, rows
):
    jobs, expected = six
    sampler = make_sampler(max_rows=rows)
    for job in jobs:
        sampler.add(job)
    done, cancelled = {}, set()
    for job_id, bursts in cancels:
        for _ in range(bursts):
            done |= dict(sampler.burst(0))
        sampler.cancel(job_id)
        if job_id not in done:
            cancelled.add(job_id)
        for version in sampler._versions.values():
            assert all(row.job.job_id != job_id for row in version.rows.rows)
    done |= drain(sampler)
    assert sorted([*done, *cancelled]) == list(range(6))
    for job_id, response in done.items():
        got = [s.tokens for s in response.sequences]
        assert got == [s.tokens for s in expected[job_id].sequences]
    assert not sampler._versions


def test_unknown_jobs_are_not_cancelled(make_sampler, make_job, drain):
    sampler = make_sampler()
    sampler.cancel(7)
    sampler.add(make_job(0))
    sampler.cancel(7)
    assert list(drain(sampler)) == [0]
