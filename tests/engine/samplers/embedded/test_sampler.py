from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl import AdamParams, Datum, LoraConfig, ModelInput
from tinker_rl.engine.base_model import load_base_model
from tinker_rl.engine.content_hash import content_hash
from tinker_rl.engine.learner import Learner
from tinker_rl.engine.samplers.base import AdapterWeights
from tinker_rl.engine.samplers.embedded import EmbeddedSampler, Replica
from tinker_rl.tokenizers import get_tokenizer

PROMPTS = [(5,), tuple(range(20, 60)), (7, 8, 9), tuple(range(100, 230)), (1000, 3)]
CLOSE = 1e-4
"""float32 on any processor: what a forward pass reads beside a row changes its rounding."""


@pytest.fixture(scope="module")
def plain():
    """Logits [T, V] of a base model as transformers computes them."""
    models = {}

    def model(base_model):
        if base_model not in models:
            models[base_model] = load_base_model(base_model, torch.device("cpu"), torch.float32)
        return models[base_model]

    @torch.no_grad()
    def plain(base_model, tokens):
        return model(base_model)(input_ids=torch.tensor([tokens])).logits[0]

    plain.model = model
    return plain


def scored(logits, prompt, sequence, temperature=1.0):
    """Logprobs of a sequence's tokens after its prompt."""
    logprobs = (logits[len(prompt) - 1 : -1] / temperature).log_softmax(-1)
    return logprobs.gather(1, torch.tensor(sequence.tokens)[:, None])[:, 0]


# ------------------------------------------------------------------------------------- numerics


@pytest.mark.parametrize("temperature", [1.0, 1.7, 0.4])
def test_logprobs_are_those_of_the_model_after_temperature(
    base_model, make_sampler, make_job, drain, plain, temperature
):
    sampler = make_sampler(base_model, max_rows=4)
    for number, prompt in enumerate(PROMPTS):
        sampler.add(make_job(number, prompt, num_samples=2, max_tokens=35, temperature=temperature))
    done = drain(sampler)
    for number, prompt in enumerate(PROMPTS):
        for sequence in done[number].sequences:
            assert len(sequence.tokens) == 35
            expected = scored(
                plain(base_model, [*prompt, *sequence.tokens]), prompt, sequence, temperature
            )
            # Dividing the logits multiplies their rounding; `tiny` has logits of 30.
            np.testing.assert_allclose(sequence.logprobs, expected, atol=3e-5 / temperature)


def test_greedy_equals_generate(base_model, make_sampler, make_job, drain, plain):
    sampler = make_sampler(base_model)
    for number, prompt in enumerate(PROMPTS):
        sampler.add(make_job(number, prompt, max_tokens=20, temperature=0.0))
    done = drain(sampler)
    for number, prompt in enumerate(PROMPTS):
        expected = plain.model(base_model).generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            do_sample=False,
            max_new_tokens=20,
            min_new_tokens=20,
            eos_token_id=None,
            pad_token_id=0,
        )
        (sequence,) = done[number].sequences
        assert sequence.tokens == expected[0, len(prompt) :].tolist()
        logits = plain(base_model, [*prompt, *sequence.tokens])
        np.testing.assert_allclose(
            sequence.logprobs, scored(logits, prompt, sequence), atol=CLOSE
        )  # of the untempered model


def test_cut_off_distributions_are_renormalised(make_sampler, make_job, drain, plain):
    prompt = (5, 6, 7)
    sampler = make_sampler()
    sampler.add(make_job(0, prompt, max_tokens=40, top_k=3, topk_samples=5))
    sampler.add(make_job(1, prompt, max_tokens=40))
    done = drain(sampler)
    (sequence,) = done[0].sequences
    logprobs = plain("tiny", [*prompt, *sequence.tokens])[len(prompt) - 1 : -1].log_softmax(-1)
    best, ids = logprobs.topk(3)
    best = best.log_softmax(-1)
    for token, logprob, top, values, tokens in zip(
        sequence.tokens, sequence.logprobs, sequence.topk_logprobs, best, ids, strict=True
    ):
        assert len(top) == 3  # the others have no probability, and stand in no list
        assert [t for t, _ in top] == tokens.tolist()
        np.testing.assert_allclose([p for _, p in top], values, atol=CLOSE)
        assert dict(top)[token] == pytest.approx(logprob, abs=1e-6)
    assert done[1].sequences[0].topk_logprobs is None


@pytest.mark.parametrize("last_n", [None, 1, 7])
def test_prompt_logprobs_are_those_of_the_model(
    base_model, make_sampler, make_job, drain, plain, last_n
):
    sampler = make_sampler(base_model)
    for number, prompt in enumerate(PROMPTS):
        sampler.add(
            make_job(
                number,
                prompt,
                temperature=1.7,  # the prompt's are untempered all the same
                prompt_logprobs=True,
                topk_prompt=4,
                prompt_last_n=last_n if last_n and last_n < len(prompt) else None,
            )
        )
    done = drain(sampler)
    for number, prompt in enumerate(PROMPTS):
        response = done[number]
        first = len(prompt) - last_n if last_n and last_n < len(prompt) else 1
        logprobs = plain(base_model, prompt)[:-1].log_softmax(-1)
        assert response.prompt_logprobs[:first] == [None] * first
        assert response.topk_prompt_logprobs[:first] == [None] * first
        assert len(response.prompt_logprobs) == len(response.topk_prompt_logprobs) == len(prompt)
        for at in range(first, len(prompt)):
            expected = logprobs[at - 1]
            assert response.prompt_logprobs[at] == pytest.approx(
                expected[prompt[at]].item(), abs=CLOSE
            )
            values, ids = expected.topk(4)
            top = response.topk_prompt_logprobs[at]
            np.testing.assert_allclose([value for _, value in top], values, atol=CLOSE)
            assert [token for token, _ in top] == ids.tolist()


def test_prompt_scores_in_chunks_are_the_same(make_sampler, make_job, drain, monkeypatch):
    whole, chunked = make_sampler(), make_sampler()
    job = make_job(0, PROMPTS[3], prompt_logprobs=True, topk_prompt=2)
    whole.add(job)
    expected = drain(whole)[0]
    monkeypatch.setattr(
        "tinker_rl.engine.samplers.embedded.prompts.logits_chunk", lambda vocab_size, device: 16
    )
    chunked.add(job)
    got = drain(chunked)[0]
    np.testing.assert_allclose(got.prompt_logprobs_np, expected.prompt_logprobs_np, atol=CLOSE)
    assert got.topk_prompt_logprobs_np.token_ids.tolist() == (
        expected.topk_prompt_logprobs_np.token_ids.tolist()
    )


# -------------------------------------------------------------------------- seeds, rows, prompts


@dataclass
class Load:
    """What else the sampler does meanwhile."""

    prompts: list
    rows: int
    samples: int


loads = st.builds(
    Load,
    prompts=st.lists(st.sampled_from(PROMPTS), max_size=5),
    rows=st.integers(1, 9),
    samples=st.integers(1, 3),
)


@given(load=loads, prompt=st.sampled_from(PROMPTS), own=st.integers(1, 5))
@settings(max_examples=12, derandomize=True)
def test_a_seed_gives_the_same_tokens_whatever_else_runs(
    make_sampler, make_job, drain, num_ties, load, prompt, own
):
    job = make_job(99, prompt, num_samples=own, max_tokens=8)
    alone = make_sampler()
    alone.add(job)
    expected = drain(alone)[99].sequences
    sampler = make_sampler(max_rows=load.rows)
    for number, other in enumerate(load.prompts):
        fields = {"num_samples": load.samples, "max_tokens": 5, "temperature": 0.9}
        sampler.add(make_job(number, other, **fields))
        if number == len(load.prompts) // 2:
            sampler.add(job)
    if not load.prompts:
        sampler.add(job)
    got = drain(sampler)[99].sequences
    assert num_ties(got, expected) <= 1


def test_samples_of_one_request_differ(make_sampler, make_job, drain):
    sampler = make_sampler(max_rows=3)
    sampler.add(make_job(0, num_samples=10, temperature=2.0))
    sequences = drain(sampler)[0].sequences
    assert len({tuple(s.tokens) for s in sequences}) == 10


def test_a_sample_does_not_depend_on_how_many_are_asked_for(make_sampler, make_job, drain):
    tokens = []
    for number in (1, 2, 5):
        sampler = make_sampler(max_rows=3)
        sampler.add(make_job(0, num_samples=number))
        tokens.append([s.tokens for s in drain(sampler)[0].sequences])
    assert tokens[0] == tokens[1][:1] == tokens[2][:1]
    assert tokens[1] == tokens[2][:2]


def test_more_samples_than_rows_are_all_sampled(make_sampler, make_job, drain):
    sampler = make_sampler(max_rows=3)
    for number in range(4):
        sampler.add(make_job(number, PROMPTS[number], num_samples=7, max_tokens=3 + number))
    done = drain(sampler)
    for number in range(4):
        assert [len(s.tokens) for s in done[number].sequences] == [3 + number] * 7


def test_a_prompt_is_read_once(make_sampler, make_job, drain, monkeypatch):
    sampler = make_sampler(max_rows=2)
    read = []
    original = type(sampler._replica).read

    def count(replica, token_N, chunk):
        read.append(len(token_N))
        return original(replica, token_N, chunk)

    monkeypatch.setattr(type(sampler._replica), "read", count)
    sampler.add(make_job(0, PROMPTS[1], num_samples=6))
    sampler.add(make_job(1, PROMPTS[1]))
    hits = [response.prompt_cache_hit_tokens for _, response in sorted(drain(sampler).items())]
    sampler.add(make_job(2, PROMPTS[1]))
    hits.append(drain(sampler)[2].prompt_cache_hit_tokens)
    assert read == [len(PROMPTS[1])]
    assert hits == [0, len(PROMPTS[1]), len(PROMPTS[1])]


def test_the_prompt_cache_is_bounded(make_sampler, make_job, drain):
    sampler = make_sampler(max_cache_gb=0.004)
    for number in range(40):
        sampler.add(make_job(number, (number, *range(100)), max_tokens=1))
    drain(sampler)
    assert 0 < sampler._prefixes.tokens <= sampler._max_cached // 2


@given(lengths=st.lists(st.tuples(st.integers(1, 120), st.integers(1, 30)), min_size=1, max_size=8))
@settings(max_examples=6)
def test_keys_and_values_stay_within_their_bound(make_sampler, make_job, drain, lengths):
    sampler = make_sampler(max_cache_gb=1e-3)  # 488 tokens of `tiny`
    bound = sampler._max_cached
    for number, (prompt, answer) in enumerate(lengths):
        sampler.add(make_job(number, range(prompt), num_samples=3, max_tokens=answer))
    answered = set()
    while not sampler.idle:
        answered |= {job_id for job_id, _ in sampler.burst(0)}
        for version in sampler._versions.values():
            slots, length = version.rows._cache.shape
            # Slots come by 16 and tokens by 64; a single row fits always.
            assert max(0, slots - 15) * max(0, length - 63) <= max(bound, length)
    assert answered == set(range(len(lengths)))


def test_a_job_that_waits_for_much_room_is_not_overtaken_for_ever(make_sampler, make_job):
    sampler = make_sampler(max_cache_gb=1e-3)  # 488 tokens of `tiny`
    for number in range(1, 5):
        sampler.add(make_job(number, range(5), max_tokens=3 + number))  # never all at once
    sampler.burst(0)
    sampler.add(make_job(0, range(400), num_samples=2, max_tokens=30))
    next_id, done = 5, set()
    while 0 not in done:
        assert next_id < 100, "small jobs keep the large one waiting"
        for job_id, _ in sampler.burst(0):
            done.add(job_id)
            sampler.add(make_job(next_id, range(5), max_tokens=7))
            next_id += 1


# ------------------------------------------------------------------------------------- versions


@pytest.fixture(scope="module")
def trained(base_model, make_learner, run, make_data):
    """A learner and three versions of its weights, each a step further."""
    learner = make_learner(base_model)
    learner.create("model:0", LoraConfig(rank=4, seed=0))
    versions = []
    for step in range(3):
        run(learner.forward_backward("model:0", make_data([20], step), "cross_entropy"))
        learner.optim_step("model:0", AdamParams(learning_rate=2e-2))
        tensors = learner.weights("model:0")
        versions.append(AdapterWeights(tensors, 32 / 4, content_hash(tensors)))
    return learner, versions


@pytest.mark.parametrize("merge_limit", [0, 2**30])
def test_every_version_is_sampled_under_its_own_weights(
    base_model, make_sampler, make_job, drain, run, trained, plain, monkeypatch, merge_limit
):
    monkeypatch.setattr("tinker_rl.engine.samplers.embedded.replica._MERGE_LIMIT", merge_limit)
    learner, versions = trained
    sampler = make_sampler(base_model, max_rows=3)
    for number, weights in enumerate(versions):
        sampler.add_version(f"v{number}", weights)
    for number, prompt in enumerate(PROMPTS * 2):
        version = ("", "v0", "v1", "v2")[number % 4]
        sampler.add(make_job(number, prompt, version=version, num_samples=2, max_tokens=15))
    done = drain(sampler)
    for number, prompt in enumerate(PROMPTS * 2):
        if number % 4 == 0:
            score = plain
        else:
            learner.load_weights("model:0", versions[number % 4 - 1].tensors)
            learner._activate("model:0")

            def score(_, tokens):
                with torch.no_grad():
                    return learner._model(input_ids=torch.tensor([tokens])).logits[0]

        for sequence in done[number].sequences:
            logits = score(base_model, [*prompt, *sequence.tokens])
            np.testing.assert_allclose(
                sequence.logprobs, scored(logits, prompt, sequence), atol=CLOSE
            )


def test_in_half_precision_sampler_and_learner_agree_up_to_its_rounding(
    base_model, make_job, drain, run, make_data
):
    model = load_base_model(base_model, torch.device("cpu"), torch.bfloat16)
    replica = Replica(model)
    learner = Learner(model, base_model, 256)
    learner.create("model:0", LoraConfig(rank=4, seed=0))
    run(learner.forward_backward("model:0", make_data([20]), "cross_entropy"))
    learner.optim_step("model:0", AdamParams(learning_rate=1e-2))
    sampler = EmbeddedSampler(replica, get_tokenizer("tiny").decode)
    weights = AdapterWeights(learner.weights("model:0"), 32 / 4, "hash")
    assert {tensor.dtype for tensor in weights.tensors.values()} == {torch.float32}
    sampler.add_version("v0", weights)
    sampler.add(make_job(0, (5, 6, 7), version="v0", num_samples=3, max_tokens=30))
    for sequence in drain(sampler)[0].sequences:
        tokens = [5, 6, 7, *sequence.tokens]
        data = [Datum(ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:]})]
        scored = run(learner.forward_backward("model:0", data, "cross_entropy"))
        expected = scored.loss_fn_outputs[0]["logprobs"].to_numpy()[2:]
        np.testing.assert_allclose(sequence.logprobs, expected, atol=0.3)
        assert np.abs(sequence.logprobs - expected).mean() < 0.05


def test_the_cached_prompt_of_one_version_is_not_used_by_another(
    base_model, make_sampler, make_job, drain, trained
):
    _, versions = trained
    sampler = make_sampler(base_model)
    sampler.add_version("v2", versions[2])
    fresh = make_sampler(base_model)
    fresh.add_version("v2", versions[2])
    sampler.add(make_job(0, PROMPTS[1]))
    drain(sampler)
    for core in (sampler, fresh):
        core.add(make_job(1, PROMPTS[1], version="v2"))
    first, second = drain(sampler)[1], drain(fresh)[1]
    assert first.prompt_cache_hit_tokens == 0
    np.testing.assert_allclose(
        first.sequences[0].logprobs, second.sequences[0].logprobs, atol=CLOSE
    )


def test_a_version_is_freed_when_its_last_job_ends(
    base_model, make_sampler, make_job, drain, trained
):
    _, versions = trained
    sampler = make_sampler(base_model, max_rows=2)
    for number, weights in enumerate(versions):
        sampler.add_version(f"v{number}", weights)
    sampler.add(make_job(0, version="v0", num_samples=4, max_tokens=6))
    sampler.add(make_job(1, version="v1"))
    sampler.burst(0)
    sampler.remove_version("v0")
    sampler.remove_version("v2")  # idle: at once
    assert set(sampler._tensors) == {"", "v0", "v1"}
    done = drain(sampler)
    assert [len(s.tokens) for s in done[0].sequences] == [6] * 4
    assert set(sampler._tensors) == {"", "v1"}
    assert set(sampler._prefixes._roots) <= {"", "v1"}
    sampler.add_version("v0", versions[0])  # it may come back, also before it is gone
    sampler.add(make_job(2, version="v0", max_tokens=30))
    sampler.burst(0)
    sampler.remove_version("v0")
    sampler.add_version("v0", versions[0])
    drain(sampler)
    assert set(sampler._tensors) == {"", "v0", "v1"}
