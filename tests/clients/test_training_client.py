import threading
import time

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl import AdamParams, Datum, ServiceClient
from tinker_rl.engine.local import EngineOptions
from tinker_rl.engine.passes import Passes
from tinker_rl.errors import (
    CheckpointError,
    EngineError,
    LearnerError,
    RequestError,
    ShapeError,
    UnknownNameError,
    UnsupportedError,
)

STEP = AdamParams(learning_rate=1e-2)


def logprobs(client, data):
    output = client.forward(data, "cross_entropy").result()
    return np.concatenate([out["logprobs"].to_numpy() for out in output.loss_fn_outputs])


def create(service, seed=0, rank=4):
    return service.create_lora_training_client("tiny", rank=rank, seed=seed)


# ----------------------------------------------------------------------------------------- order


def test_requests_queued_back_to_back_fall_into_one_clock_cycle(training, make_data):
    futures = []
    for _ in range(5):
        futures.append(training.forward_backward(make_data(), "cross_entropy"))
        futures.append(training.optim_step(STEP))
    cycles = [future.result().metrics["clock_cycle:unique"] for future in futures]
    assert cycles[::2] == cycles[1::2]
    after = training.forward(make_data(), "cross_entropy").result()
    assert after.metrics["clock_cycle:unique"] > cycles[-1]


def test_what_is_queued_is_carried_out_in_order(service, make_data):
    waiting, queueing = create(service), create(service)
    for step in range(3):
        waiting.forward_backward(make_data(seed=step), "cross_entropy").result()
        waiting.optim_step(STEP).result()
    for step in range(3):
        queueing.forward_backward(make_data(seed=step), "cross_entropy")
        queueing.optim_step(STEP)
    np.testing.assert_array_equal(logprobs(waiting, make_data()), logprobs(queueing, make_data()))


@given(delays=st.lists(st.sampled_from([0.0, 0.002, 0.01]), min_size=6, max_size=6))
@settings(max_examples=2)
def test_models_that_train_at_the_same_time_do_not_disturb_each_other(service, make_data, delays):
    def train(client, i, waits):
        for step, seconds in enumerate(waits):
            client.forward_backward(make_data(seed=i + step), "cross_entropy")
            time.sleep(seconds)
            client.optim_step(STEP)

    together = [create(service, seed=i, rank=2 + 3 * i) for i in range(3)]
    threads = [
        threading.Thread(target=train, args=(together[i], i, delays[2 * i : 2 * i + 2]))
        for i in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(3):
        alone = create(service, seed=i, rank=2 + 3 * i)
        train(alone, i, [0.0, 0.0])
        np.testing.assert_array_equal(
            logprobs(alone, make_data()), logprobs(together[i], make_data())
        )


def test_a_cancelled_training_request_goes_on(service, make_data, backend):
    client = create(service)

    async def main():
        future = await client.forward_backward_async(make_data(), "cross_entropy")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await future
        assert scope.cancelled_caught
        step = await client.optim_step_async(STEP)
        with pytest.raises(TimeoutError):
            await step.result_async(timeout=0)
        return (await step).metrics["grad_norm:mean"]

    assert anyio.run(main, backend=backend) > 0


# ----------------------------------------------------------------------------------------- errors


def test_a_request_that_fails_stops_neither_the_next_nor_the_gradient(service, make_data):
    client, twin = create(service), create(service)
    for each in (client, twin):
        futures = [each.forward_backward(make_data(), "cross_entropy")]
        if each is client:
            futures += [
                each.forward_backward(make_data(), "cross_enthropy"),
                each.forward_backward([], "cross_entropy"),
                each.forward_backward(make_data(), "ppo"),
                each.forward_backward(make_data(), "stable_reinforce"),
                each.forward_backward(make_data(), "custom"),
                each.optim_step(AdamParams(beta1=2.0)),
                each.load_state("tinker://nobody/weights/x"),
            ]
        last = each.optim_step(STEP)
        kinds = [type(future.future().exception(30)) for future in futures]
        assert (
            kinds[1:]
            == [
                UnknownNameError,
                ShapeError,
                ShapeError,
                UnsupportedError,
                UnknownNameError,
                RequestError,
                CheckpointError,
            ][: len(kinds) - 1]
        )
        last.result()
    np.testing.assert_array_equal(logprobs(client, make_data()), logprobs(twin, make_data()))


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyError("x"), MemoryError()])
def test_a_crash_in_the_learner_fails_that_request_alone(
    service, make_data, monkeypatch, caplog, error
):
    client, twin = create(service), create(service)
    for each in (client, twin):
        each.forward_backward(make_data(), "cross_entropy").result()

    def crash(passes, *arguments):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Passes, "loss", crash)
        future = client.forward_backward(make_data(), "cross_entropy")
        with pytest.raises(LearnerError, match=type(error).__name__) as caught:
            future.result(30)
    assert caught.value.__cause__ is error
    assert isinstance(caught.value, EngineError)
    for each in (client, twin):
        each.optim_step(STEP).result()
    np.testing.assert_array_equal(logprobs(client, make_data()), logprobs(twin, make_data()))


@pytest.mark.parametrize("data", [[{"model_input": 1}], ["text"], [None]])
def test_data_that_are_no_datums_are_refused(training, data):
    with pytest.raises(ShapeError, match=r"data\[0\]: expected a Datum; got"):
        training.forward_backward(data, "cross_entropy").result()


# ---------------------------------------------------------------------------------- custom losses


def test_a_custom_loss_runs_in_process_and_is_forgotten(service, make_data):
    client, twin = create(service), create(service)
    before = dict(client._backend._losses)

    def cross_entropy(data, logprobs):
        weights = [datum.loss_fn_inputs["weights"].to_torch() for datum in data]
        loss = -sum((w * lp).sum() for w, lp in zip(weights, logprobs, strict=True))
        return loss, {"mine": 4.0}

    output = client.forward_backward_custom(make_data(), cross_entropy).result()
    built_in = twin.forward_backward(make_data(), "cross_entropy").result()
    assert output.metrics["loss:sum"] == pytest.approx(built_in.metrics["loss:sum"], rel=1e-5)
    assert output.metrics["mine:mean"] == 4.0
    for each in (client, twin):
        each.optim_step(STEP).result()
    np.testing.assert_allclose(
        logprobs(client, make_data()), logprobs(twin, make_data()), atol=1e-4
    )
    with pytest.raises(RequestError, match="raised ZeroDivisionError"):
        client.forward_backward_custom(make_data(), lambda data, lp: 1 / 0).result()
    assert client._backend._losses == before


def test_only_logprobs_are_given_to_a_custom_loss(training, make_data):
    with pytest.raises(UnsupportedError, match="loss_type_input 'logprobs'"):
        training.forward_backward_custom(make_data(), print, loss_type_input="logits")


# ------------------------------------------------------------------------------------ checkpoints


@pytest.fixture
def trained(service, make_data):
    client = create(service)
    client.forward_backward(make_data(), "cross_entropy")
    client.optim_step(STEP)
    client.forward_backward(make_data(seed=1), "cross_entropy")  # not stepped yet
    return client


def go_on(client, make_data):
    for seed in (2, 3):
        client.forward_backward(make_data(seed=seed), "cross_entropy")
        client.optim_step(STEP)
    return logprobs(client, make_data())


def test_saving_and_going_on_equals_never_having_stopped(service, trained, make_data):
    path = trained.save_state("state").result().path
    expected = go_on(trained, make_data)
    same = trained
    same.load_state_with_optimizer(path).result()
    np.testing.assert_array_equal(go_on(same, make_data), expected)
    other = service.create_training_client_from_state_with_optimizer(path)
    np.testing.assert_array_equal(go_on(other, make_data), expected)


def test_a_new_engine_on_the_same_home_goes_on_too(tmp_path, make_data):
    options = EngineOptions(home=str(tmp_path))
    with ServiceClient(engine_options=options, user_metadata={"run": "one"}) as service:
        client = create(service)
        client.forward_backward(make_data(), "cross_entropy")
        client.optim_step(STEP)
        client.forward_backward(make_data(seed=1), "cross_entropy")
        path = client.save_state("state").result().path
        expected = go_on(client, make_data)
        first = client.model_id
    with ServiceClient(engine_options=options) as service:
        client = service.create_training_client_from_state_with_optimizer(path)
        assert client.model_id != first
        np.testing.assert_array_equal(go_on(client, make_data), expected)
        assert client.get_info().lora_rank == 4
        runs = service.create_rest_client().list_training_runs().result()
        assert [run.training_run_id for run in runs.training_runs] == [client.model_id, first]
        assert runs.training_runs[1].user_metadata == {"run": "one"}


def test_without_the_optimiser_it_starts_afresh(service, trained, make_data):
    path = trained.save_state("plain").result().path
    before = logprobs(trained, make_data())
    one = service.create_training_client_from_state(path)
    two = create(service, seed=5)
    two.forward_backward(make_data(), "cross_entropy")
    two.load_state(path)
    for client in (one, two):
        np.testing.assert_array_equal(logprobs(client, make_data()), before)
        with pytest.raises(RequestError, match="expected gradients"):
            client.optim_step(STEP).result()
    np.testing.assert_array_equal(go_on(one, make_data), go_on(two, make_data))
    assert not (go_on(trained, make_data) == go_on(one, make_data)).all()


def test_bad_checkpoints_are_refused_with_the_reason(service, trained, make_data, llama):
    state = trained.save_state("good").result().path
    sampler = trained.save_weights_for_sampler("good").result().path
    with pytest.raises(CheckpointError, match="got one that exists"):
        trained.save_state("good").result()
    with pytest.raises(CheckpointError, match="got one that exists"):
        trained.save_weights_for_sampler("good").result()
    assert trained.save_state("good", overwrite=True).result().path == state
    for name in ("", "..", "a/b", "../../x", ".hidden", "a" * 200, "a\nb"):
        for save in (trained.save_state, trained.save_weights_for_sampler):
            with pytest.raises(CheckpointError, match="checkpoint name"):
                save(name).result()
    other_rank = create(service, rank=8)
    other_base = service.create_lora_training_client(llama, rank=4)
    for load, path, reason in (
        (trained.load_state, state + "x", "got nothing there"),
        (trained.load_state, "good", "expected tinker://"),
        (trained.load_state, "tinker://../weights/good", "run id"),
        (trained.load_state_with_optimizer, sampler, "got sampler weights"),
        (other_rank.load_state, state, "expected an adapter of"),
        (other_base.load_state, state, "expected a checkpoint of"),
    ):
        with pytest.raises(CheckpointError, match=reason):
            load(path).result()
    for make in (
        service.create_training_client_from_state,
        service.create_training_client_from_state_with_optimizer,
    ):
        with pytest.raises(CheckpointError, match="got nothing there"):
            make(state + "x")
        with pytest.raises(RequestError, match="expected base_model 'tiny'"):
            make(state, base_model=llama)
        make(state, base_model="tiny")
    with pytest.raises(CheckpointError, match="got sampler weights"):
        service.create_training_client_from_state_with_optimizer(sampler)
    # Whatever was refused, the model is as it was.
    twin = service.create_training_client_from_state_with_optimizer(state)
    np.testing.assert_array_equal(go_on(trained, make_data), go_on(twin, make_data))


def test_sampler_weights_train_on_without_the_optimiser(service, trained, make_data):
    path = trained.save_weights_for_sampler("both").result().path
    client = service.create_training_client_from_state(path)
    np.testing.assert_array_equal(logprobs(client, make_data()), logprobs(trained, make_data()))


# ------------------------------------------------------------------------------------ description


def test_a_client_knows_its_model(service):
    client = service.create_lora_training_client("tiny", rank=3, seed=1, train_mlp=False)
    info = client.get_info()
    assert info.model_id == client.model_id
    assert (info.is_lora, info.lora_rank, info.model_name) == (True, 3, "tiny")
    assert info.model_data.model_name == "tiny"
    assert info.model_data.arch == "Qwen3ForCausalLM"
    tokenizer = client.get_tokenizer()
    assert tokenizer.decode(tokenizer.encode("17+25=")) == "17+25="


def test_a_client_is_its_own_future(training, backend):
    assert training.result() is training
    assert training.result(timeout=1.0) is training

    async def main():
        assert await training is training
        assert await training.result_async() is training

    anyio.run(main, backend=backend)


# -------------------------------------------------------------------------------------- scale


def test_an_alpha_of_ones_own_reaches_learner_sampler_and_checkpoint(service, make_data):
    client = service.create_lora_training_client("tiny", rank=4, seed=0, lora_alpha=200)
    other = service.create_lora_training_client("tiny", rank=4, seed=0)
    for each in (client, other):
        each.forward_backward(make_data(), "cross_entropy")
        each.optim_step(AdamParams(learning_rate=1e-3)).result()
    path = client.save_state("alpha").result().path
    expected = logprobs(client, make_data())
    assert not np.allclose(expected, logprobs(other, make_data()), atol=1e-3)
    again = service.create_training_client_from_state(path)
    np.testing.assert_array_equal(logprobs(again, make_data()), expected)
    datum = make_data()[0]
    for sampler in (
        client.save_weights_and_get_sampling_client(),
        service.create_sampling_client(model_path=path),
    ):
        target = datum.loss_fn_inputs["target_tokens"].tolist()
        prompt = datum.model_input.append_int(target[-1])
        scored = sampler.compute_logprobs(prompt).result()
        whole = Datum(datum.model_input, {"target_tokens": [*prompt.to_ints()[1:]]})
        (own,) = client.forward([whole], "cross_entropy").result().loss_fn_outputs
        np.testing.assert_allclose(scored[1:], own["logprobs"].to_numpy(), atol=1e-4)
    with pytest.raises(CheckpointError, match="expected an adapter with lora_alpha 32; got one"):
        other.load_state(path).result()
