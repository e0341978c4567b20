"""What every sampler promises, asked of each: the same cases on the embedded one and on vLLM."""

import time
from functools import cache

import anyio
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from tinker_rl import AdamParams, Datum, ModelInput, SamplingParams
from tinker_rl.errors import PromptTooLongError, RequestError
from tinker_rl.futures import Promise

PROMPT = list(range(20, 60))
CLOSE = 1e-4
"""float32: the models are small and their logits sharp."""


def params(**fields):
    return SamplingParams(**{"max_tokens": 12, "seed": 0, "stop": [], **fields})


def ask(client, prompt=PROMPT, samples=1, **fields):
    return client.sample(ModelInput.from_ints(prompt), samples, params(**fields))


@pytest.fixture(scope="module")
def base(engine, base_model):
    return engine.create_sampling_client(base_model=base_model)


@pytest.fixture(scope="module")
def training(engine, base_model):
    """A model whose adapter is far from doing nothing."""
    client = engine.create_lora_training_client(base_model, rank=8, seed=3)
    move(client, 6)
    return client


@pytest.fixture(scope="module")
def trained(training):
    return training.save_weights_and_get_sampling_client()


def move(training, steps, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        tokens = rng.integers(0, 1024, 24)
        datum = Datum(ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:]})
        training.forward_backward([datum], "cross_entropy")
        training.optim_step(AdamParams(learning_rate=1e-2)).result()


def learner_logprobs(training, tokens):
    datum = Datum(ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:]})
    output = training.forward([datum], "cross_entropy").result()
    return output.loss_fn_outputs[0]["logprobs"].to_numpy()


@cache
def load(model_folder):
    return AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)


def reference(model_folder, prompt, tokens, temperature=1.0, top_k=-1, top_p=1.0):
    """Logprobs [T, V], float64, of the distributions that `tokens` were drawn from."""
    whole = torch.tensor([[*prompt, *tokens]])
    with torch.no_grad():
        logits = load(model_folder)(whole).logits[0, len(prompt) - 1 : -1]
    if temperature == 0:
        return torch.log_softmax(logits.double(), dim=1).numpy()
    logits = logits.double() / temperature
    if top_k > 0:
        least = logits.topk(min(top_k, logits.shape[1])).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    ordered, order = logits.softmax(dim=1).sort(dim=1, descending=True)
    cut = ordered.cumsum(dim=1) - ordered >= top_p
    cut[:, 0] = False
    logits = logits.masked_fill(torch.zeros_like(cut).scatter(1, order, cut), -torch.inf)
    return torch.log_softmax(logits, dim=1).numpy()


def at(logprobs, tokens):
    return np.take_along_axis(logprobs, np.array(tokens)[:, None], 1)[:, 0]


# -------------------------------------------------------------------------------- probabilities


def test_logprobs_are_the_learners_with_and_without_an_adapter_in_one_batch(
    training, trained, base, base_model
):
    futures = [ask(client, samples=2, seed=i) for i in range(4) for client in (trained, base)]
    for i, future in enumerate(futures):
        for sequence in future.result().sequences:
            tokens = [*PROMPT, *sequence.tokens]
            if i % 2 == 0:
                expected = learner_logprobs(training, tokens)[len(PROMPT) - 1 :]
            else:
                expected = at(reference(base_model, PROMPT, sequence.tokens), sequence.tokens)
            np.testing.assert_allclose(sequence.logprobs, expected, atol=CLOSE)


@given(
    temperature=st.sampled_from([0.0, 0.01, 0.3, 1.0, 1.7, 2.0]),
    top_k=st.sampled_from([-1, 1, 5, 300, 1024]),
    top_p=st.sampled_from([1.0, 0.9, 0.3]),
    samples=st.integers(1, 3),
    seed=st.integers(0, 2**63),
)
@settings(max_examples=15, deadline=None)
def test_logprobs_are_those_of_the_distribution_that_was_sampled_from(
    base, base_model, temperature, top_k, top_p, samples, seed
):
    fields = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    response = ask(base, samples=samples, seed=seed, **fields).result()
    assert len(response.sequences) == samples
    close = CLOSE / min(1.0, temperature or 1.0)  # which logits are divided by
    for sequence in response.sequences:
        logprobs = reference(base_model, PROMPT, sequence.tokens, **fields)
        expected = at(logprobs, sequence.tokens)
        # At the very edge of top-p rounding decides which tokens stay.
        edge = np.isinf(expected) | (np.abs(sequence.logprobs - expected) > close)
        assert edge.mean() <= (0.1 if top_p < 1 else 0)
        if temperature == 0:
            assert sequence.tokens == logprobs.argmax(axis=1).tolist()


def test_alternatives_are_the_likeliest_tokens(base, base_model):
    fields = {"temperature": 1.3, "top_k": 4}
    response = base.sample(
        ModelInput.from_ints(PROMPT), 2, params(**fields), topk_sample_logprobs=6
    ).result()
    for sequence in response.sequences:
        logprobs = reference(base_model, PROMPT, sequence.tokens, **fields)
        for row, top in zip(logprobs, sequence.topk_logprobs, strict=True):
            order = np.argsort(-row)[:4]
            assert [token for token, _ in top] == order.tolist()  # the other two are cut off
            np.testing.assert_allclose([value for _, value in top], row[order], atol=CLOSE)


def test_prompts_are_scored_as_the_learner_scores_them_whatever_else_runs(
    training, trained, base, base_model
):
    """Also under an adapter of the unembedding, while others with and without one sample."""
    rng = np.random.default_rng(0)
    others = [ask(client, samples=3, max_tokens=40) for client in (trained, base) * 2]
    for length in (2, 17, 40, 200):
        prompt = rng.integers(0, 1024, length).tolist()
        scored = {
            client: client.sample(ModelInput.from_ints(prompt), 1, params(temperature=0.5), True, 3)
            for client in (trained, base)
        }
        for client, future in scored.items():
            response = future.result()
            full = reference(base_model, prompt[:1], prompt[1:])
            own = learner_logprobs(training, prompt)
            expected = own if client is trained else at(full, prompt[1:])
            assert response.prompt_logprobs[0] is None
            np.testing.assert_allclose(response.prompt_logprobs[1:], expected, atol=CLOSE)
            assert response.topk_prompt_logprobs[0] is None
            if client is base:
                for row, top in zip(full, response.topk_prompt_logprobs[1:], strict=True):
                    assert [token for token, _ in top] == np.argsort(-row)[:3].tolist()
        computed = trained.compute_logprobs(ModelInput.from_ints(prompt)).result()
        np.testing.assert_allclose(computed[1:], own, atol=CLOSE)
        last = trained.compute_logprobs(
            ModelInput.from_ints(prompt), prompt_logprobs_last_n=1
        ).result()
        assert last[:-1] == [None] * (length - 1)
        assert last[-1] == pytest.approx(own[-1], abs=CLOSE)
    for other in others:
        other.result()
    assert trained.compute_logprobs(ModelInput.from_ints([3])).result() == [None]


# -------------------------------------------------------------------------------------- endings


def test_stops_of_every_kind_end_a_sequence_once(base):
    tokenizer = base.get_tokenizer()
    free = ask(base, max_tokens=40, temperature=1.5).result().sequences[0]
    assert (free.stop_reason, len(free.tokens)) == ("length", 40)
    text = tokenizer.decode(free.tokens)
    for stop in ([free.tokens[7]], [free.tokens[7], 1], text[3:6], [text[3:6], "never there"]):
        (sequence,) = ask(base, max_tokens=40, temperature=1.5, stop=stop).result().sequences
        assert sequence.stop_reason == "stop"
        tokens = sequence.tokens
        assert tokens == free.tokens[: len(tokens)]
        if isinstance(stop[0], int):
            assert tokens.index(free.tokens[7]) == len(tokens) - 1
        else:
            assert text[3:6] in tokenizer.decode(tokens)
            assert text[3:6] not in tokenizer.decode(tokens[:-1])


@pytest.fixture(scope="module")
def check_ends_at_eos(base):
    """Checks what a stop makes of samples so hot that some come to the end of sequence."""
    eos = base.get_tokenizer().eos_token_id
    fields = {"samples": 64, "temperature": 2.0}
    wholes = ask(base, max_tokens=300, **fields).result().sequences
    assert {(whole.stop_reason, len(whole.tokens)) for whole in wholes} == {("length", 300)}
    ends = {i: whole.tokens.index(eos) for i, whole in enumerate(wholes) if eos in whole.tokens}
    first = sorted(ends, key=ends.get)[:3]
    assert first, "no sample came to an end of sequence"

    def check(stop):
        room = ends[first[-1]] + 9
        sequences = ask(base, max_tokens=room, stop=stop, **fields).result().sequences
        for i in first:
            assert sequences[i].stop_reason == "stop"
            assert sequences[i].tokens == wholes[i].tokens[: ends[i] + 1]

    return check


def test_none_stops_at_end_of_sequence_and_an_empty_list_at_nothing(check_ends_at_eos):
    check_ends_at_eos(None)


def test_a_special_token_can_be_a_stop_string(base, check_ends_at_eos):
    tokenizer = base.get_tokenizer()
    check_ends_at_eos(tokenizer.decode([tokenizer.eos_token_id]))


def test_the_answer_ends_with_the_context(base):
    prompt = [1] * 500
    for limit, expected in ((None, 12), (100, 12), (10, 10)):
        (sequence,) = ask(base, prompt, max_tokens=limit).result().sequences
        assert (sequence.stop_reason, len(sequence.tokens)) == ("length", expected)
    with pytest.raises(PromptTooLongError, match="at most 511 tokens"):
        ask(base, [1] * 512).result()


# ------------------------------------------------------------------------------ seeds, requests


def test_a_seed_gives_the_same_samples_whatever_else_runs(base, trained):
    long = np.random.default_rng(1).integers(0, 1024, 300).tolist()
    cases = [(client, prompt) for client in (base, trained) for prompt in (PROMPT, long)]
    alone = [ask(client, prompt, samples=3, seed=7).result() for client, prompt in cases]
    noise = [ask(base, [i, *long[i:]], 2, seed=i, max_tokens=30) for i in range(8)]
    again = [ask(client, [*prompt], samples=3, seed=7) for client, prompt in cases]
    for one, other in zip(alone, again, strict=True):
        tokens = [sequence.tokens for sequence in one.sequences]
        assert tokens == [sequence.tokens for sequence in other.result().sequences]
        assert len(set(map(tuple, tokens))) == 3
    for each in noise:
        each.result()


def test_seeds_that_are_neighbours_share_no_samples(base):
    """A group of samples under one seed is not the shifted group of the next seed."""
    responses = [ask(base, samples=4, seed=seed, temperature=1.5).result() for seed in range(4)]
    tokens = {tuple(s.tokens) for response in responses for s in response.sequences}
    assert len(tokens) == 16


def test_without_a_seed_each_request_differs(base):
    futures = [ask(base, seed=None, temperature=1.5) for _ in range(4)]
    assert len({tuple(f.result().sequences[0].tokens) for f in futures}) == 4


def test_a_prompt_is_read_once(base):
    prompt = np.random.default_rng(5).integers(0, 1024, 300).tolist()
    ask(base, prompt, 4, max_tokens=2).result()
    assert ask(base, prompt, max_tokens=2).result().prompt_cache_hit_tokens >= 280
    (first,) = ask(base, prompt, seed=2).result().sequences
    longer = [*prompt, *first.tokens, 5, 6, 7]
    assert ask(base, longer, max_tokens=2).result().prompt_cache_hit_tokens >= 280


def test_a_cancelled_sample_makes_room_and_the_others_go_on(base, backend):
    reference = ask(base, samples=2, max_tokens=60).result()
    other = ask(base, samples=2, max_tokens=60)
    future = ask(base, samples=512, max_tokens=450)  # work for half a minute

    async def main():
        with anyio.move_on_after(0.2) as scope:
            await future
        assert scope.cancelled_caught

    anyio.run(main, backend=backend)
    with pytest.raises(RequestError, match="given up"):
        future.result(60)
    tokens = [sequence.tokens for sequence in other.result(60).sequences]
    assert tokens == [sequence.tokens for sequence in reference.sequences]
    ask(base, samples=64, max_tokens=3).result(60)


# ----------------------------------------------------------------------------------- interrupts


def is_part(sequence, whole):
    """Whether a sequence is another one, or its beginning and interrupted."""
    count = len(sequence.tokens)
    alike = sequence.tokens == whole.tokens[:count] and np.allclose(
        sequence.logprobs, whole.logprobs[:count], atol=CLOSE
    )
    if sequence.stop_reason == "interrupted":
        return alike and count < len(whole.tokens)
    return alike and count == len(whole.tokens) and sequence.stop_reason == whole.stop_reason


def test_an_interrupted_sample_is_the_beginning_of_the_whole(base, trained):
    fields = {"samples": 8, "max_tokens": 300, "temperature": 1.5, "stop": list(range(0, 1024, 99))}
    wholes = [ask(client, **fields).result() for client in (base, trained)]
    wanted, seen = {("interrupted", True), ("stop", True)}, set()
    for attempt in range(60):  # a busy machine may wake this process up after the last token
        delay = 0.01 * (2 ** (attempt % 8) - 1)
        futures = [ask(client, **fields) for client in (base, trained)]
        time.sleep(delay)
        for client, future in zip((base, trained), futures, strict=True):
            client.interrupt(future)
            client.interrupt(future)
        for future, whole in zip(futures, wholes, strict=True):
            sequences = future.result(20).sequences
            for sequence, full in zip(sequences, whole.sequences, strict=True):
                assert is_part(sequence, full)
                seen.add((sequence.stop_reason, len(sequence.tokens) > 0))
        if wanted <= seen:
            break
    assert wanted <= seen


def test_a_sample_that_has_not_begun_is_interrupted_empty(base):
    busy = [ask(base, samples=64, max_tokens=450, seed=i) for i in range(2)]
    waiting = base.sample(ModelInput.from_ints(PROMPT), 3, params(max_tokens=400), True, 2, 4)
    base.interrupt(waiting)
    response = waiting.result(60)
    assert [s.stop_reason for s in response.sequences] == ["interrupted"] * 3
    if not response.sequences[0].tokens:
        assert [(s.tokens, s.logprobs, s.topk_logprobs) for s in response.sequences] == [
            ([], [], [])
        ] * 3
        assert response.prompt_logprobs == [None] * len(PROMPT)
        assert response.topk_prompt_logprobs == [None] * len(PROMPT)
    for future in busy:
        base.interrupt(future)
    for future in busy:  # on a busy machine some are done before
        assert {s.stop_reason for s in future.result(60).sequences} <= {"interrupted", "length"}


def test_an_interrupt_leaves_others_and_what_is_finished_alone(base):
    reference = ask(base, samples=2, max_tokens=200).result()
    finished = ask(base, samples=2, max_tokens=3)
    whole = finished.result()
    others = [ask(base, samples=2, max_tokens=200) for _ in range(3)]
    for seed in range(20):
        base.interrupt(ask(base, samples=4, max_tokens=400, seed=seed))
    base.interrupt(finished)
    assert finished.result() is whole
    for other in others:
        tokens = [sequence.tokens for sequence in other.result(60).sequences]
        assert tokens == [sequence.tokens for sequence in reference.sequences]
    with pytest.raises(RequestError, match=r"sample in flight; got another future"):
        base.interrupt(Promise().future)


# ------------------------------------------------------------------------------------- versions


def test_requests_in_flight_keep_their_weights_and_new_ones_take_the_new(engine, base_model):
    training = engine.create_lora_training_client(base_model, rank=4, seed=1)
    move(training, 3)
    following = training.save_weights_and_get_sampling_client(kind="inflight")
    old = learner_logprobs(training, PROMPT)
    reference = ask(following, samples=2, max_tokens=300, seed=5).result()
    in_flight = ask(following, samples=2, max_tokens=300, seed=5)
    move(training, 3, seed=1)
    new = learner_logprobs(training, PROMPT)
    assert np.abs(new - old).max() > 0.05
    training.save_weights_and_get_sampling_client(kind="inflight")
    computed = following.compute_logprobs(ModelInput.from_ints(PROMPT)).result()
    np.testing.assert_allclose(computed[1:], new, atol=CLOSE)
    tokens = [sequence.tokens for sequence in in_flight.result().sequences]
    assert tokens == [sequence.tokens for sequence in reference.sequences]


def test_a_published_version_says_how_it_was_proved(trained, training, engine):
    sync = trained.weight_sync
    assert sync.max_abs_logprob_diff < 1e-4
    assert len(sync.content_hash) == 64
    path = training.save_weights_for_sampler("proved").result().path
    saved = engine.create_sampling_client(model_path=path)
    assert saved.weight_sync.content_hash == sync.content_hash
