"""`deterministic=True`: the same bits, whatever else is asked for, and whenever."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl import Datum, LoraConfig, ModelInput, SamplingParams, ServiceClient
from tinker_rl.engine.local import EngineOptions
from tinker_rl.engine.samplers.base import AdapterWeights, StopRule
from tinker_rl.engine.samplers.embedded import EmbeddedSamplerConfig

OWN = 1000
"""Id of the first job that is watched; those of the others are lower."""


@dataclass(frozen=True)
class Load:
    """What else the sampler is asked, at some burst of the work."""

    at: int
    version: str
    prompt: int
    """Its length; prompts of one kind begin alike, and like those that are watched."""
    num_samples: int
    max_tokens: int
    scored: bool
    cancelled_after: int | None
    """Bursts after which it is cancelled."""


loads = st.lists(
    st.builds(
        Load,
        at=st.integers(0, 15),
        version=st.sampled_from(["", "v", "w"]),
        prompt=st.integers(1, 150),
        num_samples=st.integers(1, 4),
        max_tokens=st.integers(1, 8),
        scored=st.booleans(),
        cancelled_after=st.none() | st.integers(0, 8),
    ),
    max_size=8,
)
bursts = st.lists(st.sampled_from([0.0, 0.0, 0.002, 0.02]), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def small(llama, make_learner, make_sampler):
    """Makes a deterministic sampler with small chunks and few rows, and two versions."""
    learner = make_learner(llama)
    learner.create("model:0", LoraConfig(rank=2, seed=0))
    weights = {}
    for seed, version in enumerate("vw"):
        rng = torch.Generator().manual_seed(seed)
        tensors = {
            name: 0.1 * torch.randn(tensor.shape, generator=rng)
            for name, tensor in learner.weights("model:0").items()
        }
        weights[version] = AdapterWeights(tensors, 1.0, version)

    def small(**options):
        options = {"token_budget": 48, "max_rows": 3, **options}
        sampler = make_sampler(llama, deterministic=True, **options)
        for version in weights:
            sampler.add_version(version, weights[version])
        return sampler

    return small


@pytest.fixture(scope="module")
def watched(make_job):
    """The jobs whose bits are compared: more samples than rows, chunks, scores, every stop."""
    return [
        make_job(OWN, range(100, 230), version="v", num_samples=4, max_tokens=6),
        make_job(OWN + 1, range(100, 120), num_samples=2, max_tokens=5, temperature=0.0),
        make_job(
            OWN + 2,
            range(100, 225),
            version="w",
            max_tokens=12,
            stop=StopRule(token_ids=tuple(range(0, 1024, 20))),
            prompt_logprobs=True,
            topk_prompt=3,
            prompt_last_n=90,
            topk_samples=2,
        ),
        make_job(OWN + 3, (5,), version="v", num_samples=3, max_tokens=14, top_p=0.9),
    ]


def bits(response):
    """Every number of a response."""
    arrays = [response.prompt_logprobs_np]
    tops = [response.topk_prompt_logprobs_np]
    for sequence in response.sequences:
        arrays += [sequence.tokens_np, sequence.logprobs_np]
        tops.append(sequence.topk_logprobs_np)
    for top in tops:
        arrays += [] if top is None else [top.token_ids, top.logprobs]
    reasons = [sequence.stop_reason for sequence in response.sequences]
    return reasons, [None if array is None else array.tobytes() for array in arrays]


@pytest.fixture(scope="module")
def alone(small, watched, drain):
    """What each job comes to with nothing beside it, and one chunk or step a burst."""
    expected = {}
    for job in watched:
        sampler = small()
        sampler.add(job)
        expected[job.job_id] = bits(drain(sampler)[job.job_id])
    return expected


@given(
    loads=loads,
    starts=st.lists(st.integers(0, 12), min_size=4, max_size=4),
    lengths=bursts,
    order=st.permutations(range(4)),
)
@settings(max_examples=25)
def test_the_bits_do_not_depend_on_what_else_is_asked(
    small, watched, alone, make_job, loads, starts, lengths, order
):
    sampler = small()
    todo = [(load.at, load) for load in loads]
    todo += [(starts[index], watched[index]) for index in order]
    cancels = {}
    done, burst = {}, 0
    while todo or not sampler.idle:
        for at, what in list(todo):
            if at > burst:
                continue
            todo.remove((at, what))
            if isinstance(what, Load):
                job_id = loads.index(what)
                sampler.add(job_of(make_job, job_id, what))
                if what.cancelled_after is not None:
                    cancels[job_id] = burst + what.cancelled_after
            else:
                sampler.add(what)
        for job_id in [job_id for job_id, at in cancels.items() if at <= burst]:
            sampler.cancel(job_id)
            del cancels[job_id]
        done |= dict(sampler.burst(lengths[burst % len(lengths)]))
        burst += 1
    for job in watched:
        assert bits(done[job.job_id]) == alone[job.job_id]
        assert done[job.job_id].prompt_cache_hit_tokens == 0


@given(bursts_before=st.integers(0, 35), lengths=bursts, data=st.data())
@settings(max_examples=40)
def test_an_interrupted_job_has_the_first_bits_of_the_whole(
    small, watched, alone, make_job, bursts_before, lengths, data
):
    sampler = small()
    job = data.draw(st.sampled_from(watched))
    other = data.draw(st.sampled_from([each for each in watched if each is not job]) | st.none())
    for each in (job, other):
        if each is not None:
            sampler.add(each)
    done = {}
    for burst in range(bursts_before):
        done |= dict(sampler.burst(lengths[burst % len(lengths)]))
    was_done = job.job_id in done
    sampler.interrupt(job.job_id)
    sampler.interrupt(job.job_id)
    assert sampler.idle == (was_done and (other is None or other.job_id in done))
    while not sampler.idle:
        done |= dict(sampler.burst(0))
    if other is not None:
        assert bits(done[other.job_id]) == alone[other.job_id]
    if was_done:
        assert bits(done[job.job_id]) == alone[job.job_id]
        return
    whole_reasons, whole = alone[job.job_id]
    reasons, part = bits(done[job.job_id])
    assert "interrupted" in reasons
    assert len(reasons) == len(whole_reasons)
    is_scored = done[job.job_id].sequences[0].tokens != []
    if is_scored:
        assert part[0] == whole[0]
    for array, full in zip(part[1:], whole[1:], strict=True):
        assert array is full is None or full.startswith(array) or not is_scored


def test_interrupting_again_and_again_still_gives_one_answer(small, watched, make_job):
    sampler = small()
    for job in watched:
        sampler.add(job)
        sampler.burst(0)
    for job in watched:
        sampler.interrupt(job.job_id)
        sampler.cancel(job.job_id)
    answers = sampler.burst(0)
    assert sorted(job_id for job_id, _ in answers) == [job.job_id for job in watched]
    assert sampler.idle
    assert sampler.burst(0) == []


def job_of(make_job, job_id, load):
    return make_job(
        job_id,
        range(100, 100 + load.prompt),
        version=load.version,
        num_samples=load.num_samples,
        max_tokens=load.max_tokens,
        prompt_logprobs=load.scored,
    )


def test_the_bits_do_not_depend_on_versions_that_come_and_go(small, watched, alone, make_job):
    sampler = small()
    done = {}
    for round_ in range(2):
        for job in watched:
            sampler.add(job)
            sampler.add(make_job(0, range(60), version="w"))
            sampler.burst(0)
            sampler.cancel(0)
            while not sampler.idle:
                done |= dict(sampler.burst(0))
            assert bits(done[job.job_id]) == alone[job.job_id]
        if round_ == 0:
            for version in "vw":
                weights = small()._tensors[version]  # made anew, of the same tensors
                sampler.remove_version(version)
                assert version not in sampler._tensors
                sampler._tensors[version] = weights


def test_one_request_is_worked_on_at_a_time_and_nothing_is_kept(small, watched):
    sampler = small()
    for job in watched:
        sampler.add(job)
    finished = []
    while not sampler.idle:
        finished += [job_id for job_id, _ in sampler.burst(0)]
        for version in sampler._versions.values():
            at_work = {row.job.job_id for row in version.rows.rows}
            at_work |= {grant.job.job_id for grant in version.granted}
            assert len(at_work) <= 1
        assert sampler._prefixes.tokens == 0
    assert sorted(finished) == [job.job_id for job in watched]


def test_prompts_are_scored_with_the_same_bits_under_load():
    """What the KL penalty is computed from: through the client, beside a learner and samples."""
    options = EngineOptions(sampler=EmbeddedSamplerConfig(deterministic=True), threads=1)
    with ServiceClient(engine_options=options) as service:
        training = service.create_lora_training_client("tiny", rank=4, seed=0)
        clients = [
            service.create_sampling_client(base_model="tiny"),
            training.save_weights_and_get_sampling_client(),
        ]
        prompts = [ModelInput.from_ints(range(100, 100 + length)) for length in (2, 37, 400)]
        cases = [(client, prompt) for client in clients for prompt in prompts]
        alone = [client.compute_logprobs(prompt).result() for client, prompt in cases]
        data = [Datum(prompt, {"target_tokens": prompt.to_ints()}) for prompt in prompts]
        learning = [training.forward_backward(data, "cross_entropy") for _ in range(4)]
        params = SamplingParams(max_tokens=20, stop=[])
        noise = [client.sample(prompt, 3, params) for client, prompt in cases]
        scored = [client.compute_logprobs(prompt) for client, prompt in reversed(cases)]
        for future in noise[::2]:
            clients[0].interrupt(future)
        assert [future.result() for future in reversed(scored)] == alone
        for future in [*noise, *learning]:
            future.result()
