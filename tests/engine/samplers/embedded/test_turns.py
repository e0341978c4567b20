"""Prompts in chunks, and prompts that go on from earlier ones, against each request by itself."""

import gc
import itertools
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl import LoraConfig
from tinker_rl.engine.learner import Learner
from tinker_rl.engine.samplers.base import AdapterWeights, StopRule
from tinker_rl.engine.samplers.embedded import EmbeddedSamplerConfig
from tinker_rl.engine.samplers.embedded.prefix_cache import PrefixCache
from tinker_rl.engine.samplers.embedded.replica import Replica
from tinker_rl.engine.samplers.embedded.rows import Rows
from tinker_rl.tokenizers import get_tokenizer

CONTEXT = 256
"""Of the small Llama."""


@pytest.fixture(scope="module", params=["tiny", "llama"])
def base_model(request, llama):
    return llama if request.param == "llama" else "tiny"


@pytest.fixture(scope="module")
def weights(base_model, make_learner):
    """Makes the weights of a version that differs much from the base model."""
    learner: Learner = make_learner(base_model)
    learner.create("model:0", LoraConfig(rank=2, seed=0))
    rng = torch.Generator().manual_seed(0)
    tensors = {
        name: 0.1 * torch.randn(tensor.shape, generator=rng)
        for name, tensor in learner.weights("model:0").items()
    }
    return lambda: AdapterWeights(tensors, 1.0, "hash")  # a large repr would be in the way


def noting(patch):
    """A list that gets the number of tokens of each chunk, and 'step' for each decoding step."""
    done = []
    original, step = Replica.read, Rows.step

    def read_and_note(replica, token_N, chunk):
        done.append(len(token_N))
        return original(replica, token_N, chunk)

    def step_and_note(rows):
        done.append("step")
        return step(rows)

    patch.setattr(Replica, "read", read_and_note)
    patch.setattr(Rows, "step", step_and_note)
    return done


@pytest.fixture
def work(monkeypatch):
    """What is done, in order: see `noting`."""
    return noting(monkeypatch)


def read(work):
    """The chunks of what is done."""
    return [count for count in work if count != "step"]


# -------------------------------------------------------------------------------------- numerics


@dataclass
class Turn:
    """How an episode's next prompt comes from the last prompt and its answer."""

    kind: str
    where: float
    observation: list
    max_tokens: int
    num_samples: int
    stop: StopRule
    scored: int
    """0: nothing; -1: the whole prompt; else the last so many."""

    def prompt(self, before, answer):
        so_far = [*before, *answer]
        place = int(self.where * len(so_far))
        if self.kind == "extend":
            return so_far + self.observation
        if self.kind == "diverge":
            return so_far[: max(1, place)] + self.observation
        if self.kind == "rewrite":
            return [*so_far[:place], 777, *so_far[place + 1 :], *self.observation]
        return before if self.kind == "again" else so_far


DECODE = get_tokenizer("tiny").decode
stops = (
    st.just(StopRule())
    | st.lists(st.integers(0, 1023), max_size=300).map(lambda ids: StopRule(token_ids=tuple(ids)))
    | st.sampled_from([("e",), (" a", "never there"), ("\n",)]).map(lambda s: StopRule(strings=s))
)
turns = st.builds(
    Turn,
    kind=st.sampled_from(["extend"] * 3 + ["diverge", "rewrite", "again", "nothing new"]),
    where=st.floats(0, 0.99),
    observation=st.lists(st.integers(20, 1000), min_size=1, max_size=40),
    max_tokens=st.integers(1, 8),
    num_samples=st.integers(1, 3),
    stop=stops,
    scored=st.sampled_from([0, 0, 0, -1, 5]),
)
starts = st.tuples(st.integers(0, 50), st.lists(st.integers(20, 1000), min_size=1, max_size=30))
"""Tokens that all episodes may begin with, and those of one's own."""
SHARED = list(range(300, 350))


class Episode:
    def __init__(self, start, turns, version):
        self.tokens, self.answer = SHARED[: start[0]] + start[1], []
        self.turns, self.version = list(turns), version

    def job(self, make_job, job_id):
        """The next turn's request, if there is one and it has room."""
        if not self.turns:
            return None
        turn = self.turns.pop(0)
        prompt = turn.prompt(self.tokens, self.answer)
        if len(prompt) + turn.max_tokens > CONTEXT:
            return None
        self.tokens = prompt
        last_n = min(turn.scored, len(prompt) - 1) if turn.scored > 0 else None
        return make_job(
            job_id,
            prompt,
            version=self.version,
            max_tokens=turn.max_tokens,
            num_samples=turn.num_samples,
            stop=turn.stop,
            temperature=(1.0, 0.0, 1.5)[job_id % 3],
            prompt_logprobs=turn.scored != 0,
            topk_prompt=2 if turn.scored else 0,
            prompt_last_n=last_n or None,
        )


episodes = st.lists(
    st.tuples(starts, st.lists(turns, min_size=1, max_size=4), st.sampled_from(["", "v"])),
    min_size=1,
    max_size=4,
)


@given(
    plans=episodes,
    budget=st.integers(1, 60),
    rows=st.integers(1, 6),
    cache_gb=st.sampled_from([4.0, 4.0, 4e-4]),
)
@settings(max_examples=16, derandomize=True)
def test_chunks_and_shared_beginnings_change_no_number(
    base_model, weights, make_sampler, make_job, drain, num_ties, plans, budget, rows, cache_gb
):
    sampler = make_sampler(base_model, token_budget=budget, max_rows=rows, max_cache_gb=cache_gb)
    sampler.add_version("v", weights())
    live, answered = {}, []

    def ask(episode):
        job = episode.job(make_job, len(live) + len(answered))
        if job is not None:
            live[job.job_id] = (episode, job)
            sampler.add(job)

    for plan in plans:
        ask(Episode(*plan))
    while not sampler.idle:
        for job_id, response in sampler.burst(0):
            episode, job = live[job_id]
            answered.append((job, response))
            episode.answer = response.sequences[-1].tokens
            ask(episode)
            live.pop(job_id)
    alone = make_sampler(base_model, token_budget=10_000, deterministic=True)  # one by one
    alone.add_version("v", weights())
    for job, _ in answered:
        alone.add(job)
    expected = drain(alone)
    ties = 0
    for job, response in answered:
        ties += num_ties(response.sequences, expected[job.job_id].sequences)
        check_scores(response, expected[job.job_id])
        assert 0 <= response.prompt_cache_hit_tokens <= len(job.prompt)
        if job.prompt_logprobs and job.prompt_last_n is None:
            assert response.prompt_cache_hit_tokens == 0
    assert ties <= 1
    sampler.remove_version("v")
    assert "v" not in sampler._prefixes._roots


def check_scores(got, expected):
    if expected.prompt_logprobs_np is None:
        assert got.prompt_logprobs_np is None
        assert got.topk_prompt_logprobs_np is None
    else:
        check_close(got.prompt_logprobs_np, expected.prompt_logprobs_np)
        top, expected_top = got.topk_prompt_logprobs_np, expected.topk_prompt_logprobs_np
        check_close(top.logprobs, expected_top.logprobs)
        clear = np.abs(np.diff(expected_top.logprobs[:, :2], axis=1))[:, 0] > 1e-3
        assert (top.token_ids[clear, 0] == expected_top.token_ids[clear, 0]).all()


def check_close(got, expected):
    """Up to rounding: of float32, and `tiny` has logits of 30."""
    np.testing.assert_allclose(got, expected, atol=1e-4, rtol=0)
    difference = np.abs(got - expected)[~np.isnan(expected)]
    assert difference.size == 0 or np.median(difference) < 1e-5


# ------------------------------------------------------------------------------------ what is read


def test_a_turn_reads_only_what_is_new(base_model, make_sampler, make_job, drain, work):
    sampler = make_sampler(base_model)
    prompt = list(range(100, 140))
    for turn in range(4):
        work.clear()
        sampler.add(make_job(turn, prompt, max_tokens=9))
        response = drain(sampler)[turn]
        assert sum(read(work)) + response.prompt_cache_hit_tokens == len(prompt)
        assert read(work) == [40 if turn == 0 else 21]  # the last sampled token was not read yet
        prompt = [*prompt, *response.sequences[0].tokens, *range(20 * turn, 20 * turn + 20)]


def test_each_answer_of_a_group_can_be_gone_on_from(make_sampler, make_job, drain, work):
    sampler = make_sampler()
    prompt = list(range(100, 140))
    sampler.add(make_job(0, prompt, num_samples=5, max_tokens=9, temperature=2.0))
    answers = [sequence.tokens for sequence in drain(sampler)[0].sequences]
    assert sampler._prefixes.tokens <= 40 + 5 * 8  # the prompt is stored once
    work.clear()
    for number, answer in enumerate(answers):
        sampler.add(make_job(number, [*prompt, *answer, 7], max_tokens=1))
    for response in drain(sampler).values():
        assert response.prompt_cache_hit_tokens == 48
    assert read(work) == [2 * 5]


def test_prompts_that_begin_alike_read_the_beginning_once(make_sampler, make_job, drain, work):
    sampler = make_sampler()
    for number in range(6):
        sampler.add(make_job(number, [*range(100, 200), number, 3], max_tokens=1))
    hits = [response.prompt_cache_hit_tokens for _, response in sorted(drain(sampler).items())]
    assert hits == [0] + [100] * 5
    assert read(work) == [102, 2 * 5]


def test_equal_continuations_of_different_prompts_are_read_side_by_side(
    make_sampler, make_job, drain, work
):
    sampler = make_sampler()
    for number in range(4):
        sampler.add(make_job(number, range(100 * number, 100 * number + 50), max_tokens=1))
    drain(sampler)
    work.clear()
    for number in range(4):
        prompt = [*range(100 * number, 100 * number + 50), *range(60)]
        sampler.add(make_job(number, prompt, max_tokens=1))
    drain(sampler)
    assert read(work) == [4 * 60]


@pytest.mark.parametrize("last_n", [None, 4])
def test_of_a_scored_prompt_the_tokens_before_the_first_score_are_shared(
    make_sampler, make_job, drain, work, last_n
):
    sampler = make_sampler()
    prompt = list(range(100, 140))
    sampler.add(make_job(0, prompt, max_tokens=1))
    drain(sampler)
    sampler.add(make_job(1, prompt, max_tokens=1, prompt_logprobs=True, prompt_last_n=last_n))
    response = drain(sampler)[1]
    assert response.prompt_cache_hit_tokens == (35 if last_n else 0)
    assert read(work) == [40, 5 if last_n else 40]


# ----------------------------------------------------------------------------------- token budget


@given(lengths=st.lists(st.integers(1, 90), min_size=1, max_size=6), budget=st.integers(3, 40))
@settings(max_examples=15)
def test_rows_go_on_between_chunks_of_at_most_the_budget(make_sampler, make_job, lengths, budget):
    with pytest.MonkeyPatch.context() as patch:
        done = noting(patch)
        sampler = make_sampler(token_budget=budget)
        sampler.add(make_job(0, (1,), max_tokens=600))
        sampler.burst(0)
        for number, length in enumerate(lengths, 1):
            sampler.add(make_job(number, [number, *range(length)][:length], max_tokens=2))
        done.clear()
        answered = set()
        while len(answered) < len(lengths):
            before = len(done)
            answered |= {job_id for job_id, _ in sampler.burst(0)}
            assert len(done) - before <= 1  # a burst is over after a chunk or a step
        assert sum(read(done)) <= sum(lengths)
        assert max(read(done), default=0) <= budget
        for one, other in itertools.pairwise(done):
            assert "step" in (one, other)  # no two chunks without a step in between


def test_a_budget_of_no_tokens_is_refused():
    with pytest.raises(ValueError, match="token_budget: expected 1 or more, or None; got 0"):
        EmbeddedSamplerConfig(token_budget=0)


@given(data=st.data(), lengths=st.lists(st.integers(1, 200), min_size=1, max_size=5))
@settings(max_examples=15, derandomize=True)
def test_jobs_may_be_cancelled_while_their_prompt_is_read(
    make_sampler, make_job, drain, num_ties, data, lengths
):
    jobs = [
        make_job(number, [*range(length)], num_samples=2, max_tokens=5)
        for number, length in enumerate(lengths)
    ]
    sampler = make_sampler(token_budget=16, max_rows=data.draw(st.integers(1, 12)))
    for job in jobs:
        sampler.add(job)
    done, cancelled = {}, set()
    while not sampler.idle:
        done |= dict(sampler.burst(0))
        job_id = data.draw(st.integers(0, 15))
        sampler.cancel(job_id)
        if job_id < len(jobs) and job_id not in done:
            cancelled.add(job_id)
        for version in sampler._versions.values():
            assert not {grant.job.job_id for grant in version.granted} & cancelled
            assert not version.reading.keys() & cancelled
    assert done.keys() | cancelled == set(range(len(jobs)))
    assert not done.keys() & cancelled
    ties = 0
    for job_id, response in done.items():
        alone = make_sampler()
        alone.add(jobs[job_id])
        expected = drain(alone)[job_id]
        ties += num_ties(response.sequences, expected.sequences)
        check_scores(response, expected)
    assert ties <= 1


# ----------------------------------------------------------------------------------------- memory


@given(plans=episodes, cache_gb=st.sampled_from([4.0, 4e-4]), cancelled=st.integers(0, 20))
@settings(max_examples=10)
def test_nothing_is_left_of_a_version_that_is_removed(
    base_model, weights, make_sampler, make_job, drain, plans, cache_gb, cancelled
):
    sampler = make_sampler(base_model, max_rows=3, token_budget=32, max_cache_gb=cache_gb)
    sampler.add_version("v", weights())
    refs = []
    insert = PrefixCache.insert

    def insert_and_note(cache, version, token_T, cut, end_H=None):
        def note(start, stop):
            keys = cut(start, stop)
            refs.extend(map(weakref.ref, keys.keys + keys.values))
            return keys

        insert(cache, version, token_T, note, end_H)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PrefixCache, "insert", insert_and_note)
        jobs = 0
        for start, plan, _ in plans:
            episode = Episode(start, plan, "v")
            while (job := episode.job(make_job, jobs)) is not None:
                jobs += 1
                sampler.add(job)
                if jobs == cancelled:
                    sampler.burst(0)
                    sampler.cancel(job.job_id)
        gc.disable()  # a cycle would keep them until a collection
        try:
            drain(sampler)
            alive = sum(ref() is not None for ref in refs)
            assert alive == 2 * sum(len(node.keys.keys) for node in sampler._prefixes._recent)
            sampler.remove_version("v")
            assert sampler._prefixes.tokens == 0
            assert not sampler._prefixes._roots
            assert [ref() for ref in refs if ref() is not None] == []
        finally:
            gc.enable()


def test_the_cache_takes_what_the_rows_leave(make_sampler, make_job, drain):
    sampler = make_sampler(max_cache_gb=1e-2)
    bound, most = sampler._max_cached, 0  # 4882 tokens of `tiny`
    for number in range(42):
        wide = 30 <= number < 34
        prompt = range(10 * number, 10 * number + 100)
        sampler.add(make_job(number, prompt, num_samples=30 if wide else 1, max_tokens=3))
        while not sampler.idle:
            sampler.burst(0)
            slots = sum(version.rows.stored for version in sampler._versions.values())
            spare = max(min(bound - slots, bound // 2), bound // 8)
            if slots:  # what is done once the rows are gone is not yet used
                assert sampler._prefixes.tokens <= spare
        most = max(most, sampler._prefixes.tokens)
        if wide:
            assert sampler._prefixes.tokens <= bound // 4
    assert bound // 4 < most <= bound // 2
