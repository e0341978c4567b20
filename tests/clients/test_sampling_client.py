import gc
import threading
import time

import anyio
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinker_rl import AdamParams, Datum, ModelInput, SamplingParams, ServiceClient
from tinker_rl.engine.local import EngineOptions
from tinker_rl.engine.samplers.base import AdapterWeights
from tinker_rl.engine.samplers.embedded import EmbeddedSampler, EmbeddedSamplerConfig
from tinker_rl.engine.samplers.embedded.replica import VersionTensors
from tinker_rl.errors import (
    EngineError,
    PromptTooLongError,
    RequestError,
    ShapeError,
    UnknownNameError,
    UnsupportedError,
)
from tinker_rl.futures import Promise

STEP = AdamParams(learning_rate=2e-2)
PROMPT = ModelInput.from_ints([5, 6, 7])


def params(**fields):
    return SamplingParams(**{"max_tokens": 12, "seed": 0, "stop": [], **fields})


def scored(training, prompt, sequence):
    """The learner's logprobs of a sampled sequence."""
    tokens = [*prompt.to_ints(), *sequence.tokens]
    data = [Datum(ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:]})]
    output = training.forward(data, "cross_entropy").result()
    return output.loss_fn_outputs[0]["logprobs"].to_numpy()[prompt.length - 1 :]


def agree(training, client, seed=0):
    """Up to rounding: the learner adds the adapter's product, the sampler has merged it."""
    response = client.sample(PROMPT, 2, params(max_tokens=25, seed=seed)).result()
    for sequence in response.sequences:
        np.testing.assert_allclose(sequence.logprobs, scored(training, PROMPT, sequence), atol=5e-5)


@pytest.fixture(scope="module")
def train(make_data):
    """Moves a model by a step."""

    def train(client, seed=0):
        client.forward_backward(make_data(seed=seed), "cross_entropy")
        client.optim_step(STEP).result()

    return train


@pytest.fixture
def engine():
    """Makes an engine of the test's own, with other options of its sampler."""
    clients = []

    def make(**options):
        config = EmbeddedSamplerConfig(**options)
        clients.append(ServiceClient(engine_options=EngineOptions(sampler=config)))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


# ------------------------------------------------------------------------ learner and sampler


@pytest.mark.parametrize("base", ["tiny", "llama"])
def test_sampler_and_learner_agree_on_what_was_sampled(service, train, llama, base):
    base_model = llama if base == "llama" else "tiny"
    training = service.create_lora_training_client(base_model, rank=4, seed=0)
    agree(training, service.create_sampling_client(base_model=base_model))
    train(training)
    agree(training, training.save_weights_and_get_sampling_client())
    path = training.save_weights_for_sampler("after").result().path
    for client in (
        service.create_sampling_client(model_path=path),
        service.create_sampling_client(model_path=path, base_model=base_model),
        training.create_sampling_client(path),
        training.save_weights_and_get_sampling_client(name="named"),
        service.create_sampling_client(training.save_state("state").result().path),
    ):
        agree(training, client)
        assert client.get_base_model() == base_model
    assert client.model_path.endswith("/weights/state")


def test_a_snapshot_keeps_its_weights_and_inflight_follows(service, train):
    training = service.create_lora_training_client("tiny", rank=4, seed=0)
    train(training)
    snapshot = training.save_weights_and_get_sampling_client()
    following = training.save_weights_and_get_sampling_client(kind="inflight")
    before = snapshot.sample(PROMPT, 1, params()).result().sequences[0]
    train(training, seed=1)
    assert snapshot.sample(PROMPT, 1, params()).result().sequences[0].tokens == before.tokens
    old = following.sample(PROMPT, 1, params()).result().sequences[0]
    assert old.tokens == before.tokens  # it follows what is published, not what is trained
    also = training.save_weights_and_get_sampling_client(kind="inflight")
    for client in (following, also):
        agree(training, client, seed=3)
    del also
    gc.collect()
    agree(training, following, seed=4)
    kept = snapshot.sample(PROMPT, 1, params()).result().sequences[0]
    np.testing.assert_array_equal(kept.tokens, before.tokens)
    np.testing.assert_allclose(kept.logprobs, before.logprobs, atol=1e-5)


def test_versions_that_nobody_uses_are_freed(service, train):
    training = service.create_lora_training_client("tiny", rank=4, seed=0)
    router = training._backend

    def alive():
        service.get_server_capabilities()  # what was released before is handled before this
        gc.collect()
        return sum(type(each) in (AdapterWeights, VersionTensors) for each in gc.get_objects())

    before, client = alive(), None
    for step in range(20):
        if step % 5 == 0:
            train(training, seed=step)
        client = training.save_weights_and_get_sampling_client()
        client.sample(PROMPT, 1, params(max_tokens=1)).result()
    for _ in range(20):
        if alive() - before <= 2:
            break
        time.sleep(0.05)
    assert alive() - before <= 2  # the last: its tensors, and these made ready
    assert router is client._backend


# ------------------------------------------------------------------------------------- requests


def test_stops_are_those_of_the_api(service, sampling):
    tokenizer = sampling.get_tokenizer()
    free = sampling.sample(PROMPT, 1, params(max_tokens=40, temperature=1.5)).result().sequences[0]
    assert (free.stop_reason, len(free.tokens)) == ("length", 40)
    text = tokenizer.decode(free.tokens)
    for stop, expected in (
        ([free.tokens[7]], [free.tokens[7]]),
        (text[3:6], None),
        ([text[3:6], "never there"], None),
    ):
        given = params(max_tokens=40, temperature=1.5, stop=stop)
        (sequence,) = sampling.sample(PROMPT, 1, given).result().sequences
        assert sequence.stop_reason == "stop"
        length = len(sequence.tokens)
        assert sequence.tokens == free.tokens[:length]
        if expected:
            assert sequence.tokens[-1:] == expected
            assert expected[0] not in sequence.tokens[:-1]
        else:
            assert text[3:6] in tokenizer.decode(sequence.tokens)
            assert text[3:6] not in tokenizer.decode(sequence.tokens[:-1])


def test_without_a_stop_given_it_ends_with_end_of_sequence(sampling):
    tokenizer = sampling.get_tokenizer()
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "17+25=?"}], add_generation_prompt=True, return_dict=False
    )
    prompt = ModelInput.from_ints(prompt)
    given = SamplingParams(max_tokens=64, temperature=0.0)
    (sequence,) = sampling.sample(prompt, 1, given).result().sequences
    eos = tokenizer.eos_token_id
    assert sequence.stop_reason == "stop"
    assert sequence.tokens.index(eos) == len(sequence.tokens) - 1
    (on,) = (
        sampling.sample(prompt, 1, SamplingParams(max_tokens=64, temperature=0.0, stop=[]))
        .result()
        .sequences
    )
    assert (on.stop_reason, len(on.tokens)) == ("length", 64)
    assert on.tokens[: len(sequence.tokens)] == sequence.tokens  # not even there


def test_the_answer_ends_with_the_context(service, llama):
    client = service.create_sampling_client(base_model=llama)
    prompt = ModelInput.from_ints([1] * 240)
    for limit, expected in ((None, 16), (100, 16), (10, 10)):
        (sequence,) = (
            client.sample(prompt, 1, SamplingParams(max_tokens=limit, stop=[])).result().sequences
        )
        assert (sequence.stop_reason, len(sequence.tokens)) == ("length", expected)
    with pytest.raises(PromptTooLongError, match="at most 255 tokens"):
        client.sample(ModelInput.from_ints([1] * 256), 1, params()).result()


def test_prompt_logprobs_are_the_learners(service, training, sampling):
    fresh = service.create_lora_training_client("tiny", rank=4, seed=0)
    prompt = ModelInput.from_ints(range(50, 90))
    tokens = prompt.to_ints()
    data = [Datum(ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:]})]
    expected = fresh.forward(data, "cross_entropy").result().loss_fn_outputs[0]["logprobs"]
    computed = sampling.compute_logprobs(prompt).result()
    assert computed[0] is None
    np.testing.assert_allclose(computed[1:], expected.to_numpy(), atol=1e-5)
    assert sampling.compute_logprobs(ModelInput.from_ints([3])).result() == [None]
    last = sampling.compute_logprobs(prompt, prompt_logprobs_last_n=5).result()
    assert last[:-5] == [None] * 35
    np.testing.assert_allclose(last[-5:], computed[-5:], atol=1e-6)
    response = sampling.sample(
        prompt, 2, params(), include_prompt_logprobs=True, topk_prompt_logprobs=3
    ).result()
    np.testing.assert_allclose(response.prompt_logprobs[1:], computed[1:], atol=1e-6)
    assert [len(top) for top in response.topk_prompt_logprobs[1:]] == [3] * 39
    assert response.prompt_cache_hit_tokens == 0
    plain = sampling.sample(prompt, 1, params()).result()
    assert (plain.prompt_logprobs, plain.topk_prompt_logprobs) == (None, None)


@given(seed=st.integers(0, 2**63 - 1), samples=st.integers(1, 4))
@settings(max_examples=5)
def test_a_seed_gives_the_same_tokens_from_many_threads(sampling, seed, samples):
    results = {}

    def ask(number):
        given = params(seed=seed if number % 2 == 0 else number, temperature=1.3)
        results[number] = sampling.sample(PROMPT, samples, given).result()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tokens = [[s.tokens for s in results[number].sequences] for number in (0, 2, 4)]
    assert tokens[0] == tokens[1] == tokens[2]
    assert len({tuple(t) for t in tokens[0]}) == samples


def test_without_a_seed_each_request_differs(sampling):
    given = params(seed=None, temperature=1.5)
    futures = [sampling.sample(PROMPT, 1, given) for _ in range(4)]
    assert len({tuple(f.result().sequences[0].tokens) for f in futures}) == 4


@pytest.mark.parametrize(
    ("prompt", "fields", "kind"),
    [
        (ModelInput.empty(), {}, ShapeError),
        (ModelInput.from_ints([1024]), {}, RequestError),
        (ModelInput.from_ints([1] * 1024), {}, PromptTooLongError),
        (PROMPT, {"max_tokens": 0}, RequestError),
        (PROMPT, {"temperature": -1.0}, RequestError),
        (PROMPT, {"stop": ["a", 1]}, RequestError),
    ],
)
def test_a_bad_request_is_told_and_the_others_go_on(sampling, prompt, fields, kind):
    futures = [
        sampling.sample(PROMPT, 1, params()),
        sampling.sample(prompt, 1, params(**fields)),
        sampling.sample(PROMPT, 1, params()),
    ]
    with pytest.raises(kind, match="expected"):
        futures[1].result()
    assert futures[0].result().sequences[0].tokens == futures[2].result().sequences[0].tokens


def test_arguments_of_other_types_are_refused(sampling):
    with pytest.raises(RequestError, match="expected a ModelInput as prompt; got list"):
        sampling.sample([1, 2], 1, params())
    with pytest.raises(RequestError, match="expected SamplingParams; got dict"):
        sampling.sample(PROMPT, 1, {"max_tokens": 3})


def test_what_is_not_there_is_refused(sampling, service, training):
    for fields in ({"prompt_alt_tokens_k": 2}, {"target_prompt_logprobs": object()}):
        with pytest.raises(UnsupportedError, match="not supported here"):
            sampling.sample(PROMPT, 1, params(), **fields)
    for call in (
        lambda: service.create_sampling_client(base_model="tiny", record_stability_info=True),
        lambda: training.save_weights_and_get_sampling_client(record_stability_info=True),
        lambda: training.create_sampling_client("x", record_stability_info=True),
    ):
        with pytest.raises(UnsupportedError, match="stable_reinforce"):
            call()


def test_sampler_and_model_alternate(sampling, training, make_data):
    """Neither waits for the other's end."""
    sampling.sample(PROMPT, 1, params()).result()
    long = sampling.sample(PROMPT, 64, params(max_tokens=600))
    for _ in range(5):
        training.forward_backward(make_data(), "cross_entropy").result()
        training.optim_step(STEP).result()
    quick = sampling.sample(PROMPT, 1, params(max_tokens=2)).result()
    assert len(quick.sequences[0].tokens) == 2
    assert not long.done()
    with pytest.raises(TimeoutError):
        anyio.run(long.result_async, 0.01)


# -------------------------------------------------------------------------------- cancellations


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_a_cancelled_sample_is_cancelled_in_the_sampler(sampling, backend, how, monkeypatch):
    reference = sampling.sample(PROMPT, 2, params(max_tokens=30)).result()
    other = sampling.sample(PROMPT, 2, params(max_tokens=30))
    future = sampling.sample(PROMPT, 128, params(max_tokens=1000))

    async def main():
        if how == "timeout":
            with pytest.raises(TimeoutError):
                await future.result_async(timeout=0.1)
        else:
            with anyio.move_on_after(0.1) as scope:
                await future
            assert scope.cancelled_caught

    anyio.run(main, backend=backend)
    with pytest.raises(RequestError, match="given up"):
        future.result(10)  # and nobody hangs who waits for it all the same
    got = other.result(30)
    assert [s.tokens for s in got.sequences] == [s.tokens for s in reference.sequences]
    jobs, burst = [], EmbeddedSampler.burst

    def note_and_burst(sampler, seconds):
        jobs.append(len(sampler._jobs))
        return burst(sampler, seconds)

    monkeypatch.setattr(EmbeddedSampler, "burst", note_and_burst)
    sampling.sample(PROMPT, 100, params(max_tokens=5)).result()
    assert max(jobs) == 1  # all rows are free for it


def test_a_cancelled_compute_logprobs_or_creation_leaves_no_client(service, backend):
    async def main():
        with anyio.CancelScope() as scope:
            scope.cancel()
            await service.create_sampling_client_async(base_model="tiny")
        assert scope.cancelled_caught
        client = await service.create_sampling_client_async(base_model="tiny")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await client.compute_logprobs_async(PROMPT)
        return len(await client.compute_logprobs_async(PROMPT))

    assert anyio.run(main, backend=backend) == 3


# ------------------------------------------------------------------------- faults of the sampler


def crashing(monkeypatch, times, only=None):
    """Lets the sampler fail so many times in the middle of its work."""
    original, left = EmbeddedSampler.burst, [times]

    def burst(sampler, seconds):
        done = original(sampler, 0.0)
        if left[0] and sampler._jobs and (only is None or only(sampler)):
            left[0] -= 1
            raise RuntimeError("no memory")
        return done

    monkeypatch.setattr(EmbeddedSampler, "burst", burst)
    return left


@pytest.mark.parametrize("requests", [1, 4])
def test_a_sampler_that_fails_is_replaced_and_nobody_notices(service, train, caplog, requests):
    training = service.create_lora_training_client("tiny", rank=4, seed=0)
    train(training)
    trained = training.save_weights_and_get_sampling_client()
    base = service.create_sampling_client(base_model="tiny")
    clients = [trained, base] * 2
    expected = [
        clients[i].sample(PROMPT, 2, params(seed=i)).result().sequences for i in range(requests)
    ]
    with pytest.MonkeyPatch.context() as patch:
        left = crashing(patch, 1)
        futures = [clients[i].sample(PROMPT, 2, params(seed=i)) for i in range(requests)]
        got = [future.result(30).sequences for future in futures]
        assert left == [0]
    for one, other in zip(got, expected, strict=True):
        assert [s.tokens for s in one] == [s.tokens for s in other]
    agree(training, trained)


def test_a_sampler_that_keeps_failing_is_an_error_and_the_next_one_serves(
    service, train, monkeypatch, caplog
):
    training = service.create_lora_training_client("tiny", rank=4, seed=0)
    train(training)
    client = training.save_weights_and_get_sampling_client()
    with monkeypatch.context() as patch:
        crashing(patch, 2)
        futures = [client.sample(PROMPT, 2, params()) for _ in range(3)]
        errors = [future.future().exception(30) for future in futures]
    assert any(isinstance(error, EngineError) for error in errors)
    for error in errors:
        assert error is None or "failed twice, last with RuntimeError: no memory" in str(error)
    agree(training, client)


@pytest.mark.parametrize("is_told", [True, False])
def test_a_sample_outlives_its_client_and_a_failing_sampler(
    service, train, monkeypatch, caplog, is_told
):
    """Also one that fails before it is told that the client is gone."""
    training = service.create_lora_training_client("tiny", rank=4, seed=0)
    train(training)
    client = training.save_weights_and_get_sampling_client()
    expected = client.sample(PROMPT, 2, params(max_tokens=30)).result().sequences
    released, bursts = threading.Event(), []

    def fails_now(_):
        released.wait(30)
        bursts.append(1)
        return len(bursts) > is_told  # what was queued before the second burst it was told

    left = crashing(monkeypatch, 1, only=fails_now)
    future = client.sample(PROMPT, 2, params(max_tokens=30))
    del client
    gc.collect()
    service.get_server_capabilities()  # what was released before is handled before this
    released.set()
    got = future.result(30).sequences
    assert left == [0]
    assert [s.tokens for s in got] == [s.tokens for s in expected]


@pytest.fixture(scope="module")
def whole(sampling):
    """A sample that nothing ends before its limit."""
    return sampling.sample(PROMPT, 2, params(max_tokens=80)).result()


@given(crashes=st.integers(0, 2), pause=st.sampled_from([0.0, 0.03, 0.1]))
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_interrupt_is_heeded_by_a_sampler_that_was_replaced(
    service, whole, caplog, crashes, pause
):
    client = service.create_sampling_client(base_model="tiny")
    with pytest.MonkeyPatch.context() as patch:
        crashing(patch, crashes)
        futures = [client.sample(PROMPT, 2, params(max_tokens=80)) for _ in range(3)]
        time.sleep(pause)
        client.interrupt(futures[0])
        errors = [future.future().exception(30) for future in futures]
    for future, error in zip(futures, errors, strict=True):
        if error is not None:
            assert crashes == 2
            assert "failed twice" in str(error)
            continue
        for sequence, full in zip(future.result().sequences, whole.sequences, strict=True):
            assert sequence.tokens == full.tokens[: len(sequence.tokens)]
            if future is not futures[0]:
                assert len(sequence.tokens) == 80
            elif len(sequence.tokens) < 80:
                assert sequence.stop_reason == "interrupted"


def test_only_a_sample_in_flight_can_be_interrupted(service):
    training = service.create_lora_training_client("tiny", rank=4, seed=0)
    client = service.create_sampling_client(base_model="tiny")
    saving = training.save_state("interrupted")
    if not saving.done():
        with pytest.raises(RequestError, match=r"sample in flight; got that of SaveState"):
            client.interrupt(saving)
    saving.result()
    client.interrupt(saving)  # what is done stays as it is
    with pytest.raises(RequestError, match=r"sample in flight; got another future"):
        client.interrupt(Promise().future)


@pytest.mark.parametrize("num_threads", [4])
def test_interrupts_come_from_any_thread(service, num_threads):
    client = service.create_sampling_client(base_model="tiny")
    futures = [client.sample(PROMPT, 2, params(max_tokens=400, seed=i)) for i in range(8)]

    def interrupt():
        for future in futures:
            client.interrupt(future)

    threads = [threading.Thread(target=interrupt) for _ in range(num_threads)]
    for thread in threads:
        thread.start()
    for future in futures:
        reasons = {sequence.stop_reason for sequence in future.result(30).sequences}
        assert reasons <= {"interrupted", "length"}
    for thread in threads:
        thread.join()


def test_weights_that_cannot_be_made_ready_fail_whoever_opens_them(
    service, train, monkeypatch, sampling
):
    training = service.create_lora_training_client("tiny", rank=4, seed=77)
    train(training)

    def fail(sampler, version, weights):
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddedSampler, "add_version", fail)
        with pytest.raises(EngineError, match="no memory"):
            training.save_weights_and_get_sampling_client()
    agree(training, training.save_weights_and_get_sampling_client())
    sampling.sample(PROMPT, 1, params()).result()


# --------------------------------------------------------------------------------- other engines


def test_deterministic_gives_the_same_bits_under_changing_load(engine):
    client = engine(deterministic=True).create_sampling_client(base_model="tiny")
    given = params(max_tokens=20)
    alone = client.sample(PROMPT, 3, given).result()
    others = [
        client.sample(ModelInput.from_ints(range(5 + 9 * n)), 2, params(seed=n)) for n in range(4)
    ]
    among = client.sample(PROMPT, 3, given)
    others.append(client.sample(PROMPT, 1, params()))
    for one, other in zip(alone.sequences, among.result().sequences, strict=True):
        assert one.tokens_np.tobytes() == other.tokens_np.tobytes()
        assert one.logprobs_np.tobytes() == other.logprobs_np.tobytes()
    for other in others:
        other.result()


def test_two_engines_sample_at_the_same_time(sampling, engine):
    """Their device threads share the attention function, and nothing else."""
    other = engine(max_rows=4).create_sampling_client(base_model="tiny")
    expected = [sampling.sample(PROMPT, 2, params(seed=n)).result() for n in range(4)]
    futures = [
        client.sample(PROMPT, 2, params(seed=n)) for n in range(4) for client in (sampling, other)
    ]
    for number, future in enumerate(futures):
        got = future.result(30).sequences
        assert [s.tokens for s in got] == [s.tokens for s in expected[number // 2].sequences]


def test_a_sampler_of_an_engine_that_is_gone_is_unknown(engine):
    first = engine().create_sampling_client(base_model="tiny")
    second = engine(max_rows=5).create_sampling_client(base_model="tiny")
    second._info = first._info
    assert torch.get_num_threads() >= 1
    with pytest.raises(UnknownNameError, match="Create a sampling client again"):
        second.sample(PROMPT, 1, params()).result()
