import pickle
import threading
import time
from types import SimpleNamespace

import pytest

from tinker_rl import ModelInput, SamplingParams, ServiceClient
from tinker_rl.engine.local import EngineOptions
from tinker_rl.errors import (
    CheckpointError,
    ConfigError,
    EngineClosedError,
    RequestError,
    UnknownNameError,
    UnsupportedError,
)


@pytest.fixture
def options(tmp_path):
    """An engine of the test's own."""
    return EngineOptions(home=str(tmp_path))


# ---------------------------------------------------------------------------------------- models


def test_the_lineup_is_listed_with_what_can_be_had(service):
    models = service.get_server_capabilities().supported_models
    by_name = {model.model_name: model for model in models}
    assert by_name["tiny"].unavailable_reason is None
    assert by_name["tiny"].max_context_length == 1024
    assert by_name["Qwen/Qwen3-8B"].unavailable_reason


@pytest.mark.parametrize("name", ["tinny", "Qwen/Qwen3-8B", "some/model", "", "/no/folder"])
def test_a_model_that_cannot_be_had_is_refused_at_once(service, name):
    for create in (
        service.create_lora_training_client,
        lambda name: service.create_sampling_client(base_model=name),
    ):
        started = time.monotonic()
        with pytest.raises(UnknownNameError, match="base_model"):
            create(name)
        assert time.monotonic() - started < 10
    assert service.get_server_capabilities().supported_models


def test_a_folder_that_cannot_be_loaded_is_refused_every_time(service, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for _ in range(2):
        with pytest.raises(UnknownNameError, match="expected a model that can be had here"):
            service.create_lora_training_client(str(tmp_path))


def test_a_model_is_loaded_once_for_all_who_ask_at_the_same_time(options):
    with ServiceClient(engine_options=options) as service:
        clients = []

        def create():
            clients.append(service.create_lora_training_client("tiny", rank=2))

        threads = [threading.Thread(target=create) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({client.model_id for client in clients}) == 4
        sampling = service.create_sampling_client(base_model="tiny")
        assert sampling.get_base_model() == "tiny"


def test_bad_options_of_a_model_are_refused(service):
    with pytest.raises(ConfigError, match=r"LoraConfig\.rank"):
        service.create_lora_training_client("tiny", rank=0)
    with pytest.raises(ConfigError, match="at least one of train_attn"):
        service.create_lora_training_client(
            "tiny", train_mlp=False, train_attn=False, train_unembed=False
        )


def test_a_sampling_client_needs_one_of_two_that_agree(service, training, llama):
    path = training.save_weights_for_sampler("agree").result().path
    with pytest.raises(ConfigError, match="expected model_path or base_model; got neither"):
        service.create_sampling_client()
    with pytest.raises(ConfigError, match="expected base_model 'tiny'"):
        service.create_sampling_client(path, base_model=llama)
    for bad in (path + "x", "tiny", "tinker://x", ""):
        with pytest.raises(CheckpointError):
            service.create_sampling_client(bad)


def test_metadata_of_client_and_model_go_with_the_run(service):
    model = service.create_lora_training_client("tiny", rank=2, user_metadata={"renderer": "x"})
    rest = service.create_rest_client()
    run = rest.get_training_run(model.model_id).result()
    assert run.user_metadata == {"who": "tests", "renderer": "x"}
    path = model.save_state("meta").result().path
    other = service.create_training_client_from_state(path, user_metadata={"who": "me"})
    assert rest.get_training_run(other.model_id).result().user_metadata == {"who": "me"}


# ---------------------------------------------------------------------------------------- refusals


def test_what_the_hosted_service_has_is_refused_and_not_ignored(service, training):
    rest = service.create_rest_client()
    dimuon = SimpleNamespace(type="dimuon")
    for call in (
        lambda: service.create_lora_training_client("tiny", optimizer=dimuon),
        lambda: service.create_training_client_from_state("x", optimizer={"type": "dimuon"}),
        lambda: service.create_training_client_from_state("x", weights_access_token="t"),
        lambda: service.create_training_client_from_state_with_optimizer(
            "x", weights_access_token="t"
        ),
        lambda: service.copy_weights("x", weights_access_token="t"),
        lambda: training.load_state("x", weights_access_token="t"),
        lambda: training.load_state_with_optimizer("x", "t"),
        lambda: rest.copy_weights("x", "project"),
        lambda: rest.copy_weights("x", weights_access_token="t"),
        lambda: rest.list_training_runs(project_id="project"),
    ):
        with pytest.raises(UnsupportedError, match=r"expected .*; got"):
            call()
    adamw = SimpleNamespace(type="adamw")
    service.create_lora_training_client("tiny", rank=2, optimizer=adamw)


def test_a_remote_engine_is_refused_until_there_is_one(monkeypatch):
    with pytest.raises(UnsupportedError, match="expected no base_url; got 'http://host'"):
        ServiceClient(base_url="http://host")
    monkeypatch.setenv("TINKER_BASE_URL", "http://other")
    with pytest.raises(UnsupportedError, match="got 'http://other'"):
        ServiceClient()
    monkeypatch.setenv("TINKER_BASE_URL", "")
    ServiceClient().close()  # empty counts as unset


def test_pickling_a_client_says_why_not(service, training, sampling):
    for client in (service, training, sampling, service.create_rest_client()):
        with pytest.raises(TypeError, match=r"in-process engine cannot be pickled: .*base_url"):
            pickle.dumps(client)


# ------------------------------------------------------------------------------------ life and end


def test_an_engine_ends_with_its_last_client(options):
    one, two = ServiceClient(engine_options=options), ServiceClient(engine_options=options)
    assert one._backend is two._backend
    model = one.create_lora_training_client("tiny", rank=2)
    one.close()
    one.close()  # again, it does nothing
    assert model.get_info().lora_rank == 2
    two.close()
    with pytest.raises(EngineClosedError):
        model.get_info()
    with ServiceClient(engine_options=options) as three:  # and a new one begins
        assert three._backend is not one._backend
        three.create_rest_client().get_training_run(model.model_id).result()


def test_clients_of_an_engine_that_was_closed_say_so(options, make_data):
    with ServiceClient(engine_options=options) as service:
        model = service.create_lora_training_client("tiny", rank=2)
        sampler = service.create_sampling_client(base_model="tiny")
        rest = service.create_rest_client()
    given = SamplingParams(max_tokens=1)
    calls = (
        lambda: model.forward_backward(make_data(), "cross_entropy").result(5),
        lambda: model.optim_step().result(5),
        lambda: model.save_state("x").result(5),
        lambda: model.save_weights_and_get_sampling_client(),
        lambda: sampler.sample(ModelInput.from_ints([1]), 1, given).result(5),
        lambda: sampler.compute_logprobs(ModelInput.from_ints([1])).result(5),
        lambda: rest.list_training_runs().result(5),
        lambda: service.create_lora_training_client("tiny"),
        lambda: service.get_server_capabilities(),
    )
    for call in calls:
        started = time.monotonic()
        with pytest.raises(EngineClosedError, match="Create a new ServiceClient"):
            call()
        assert time.monotonic() - started < 4
    assert sampler.get_base_model() == "tiny"


def test_what_is_not_answered_when_the_engine_ends_fails(options, make_data):
    service = ServiceClient(engine_options=options)
    model = service.create_lora_training_client("tiny", rank=2)
    sampler = service.create_sampling_client(base_model="tiny")
    given = SamplingParams(max_tokens=1000, stop=[])
    futures = [sampler.sample(ModelInput.from_ints([1]), 100, given) for _ in range(3)]
    futures += [model.forward_backward(make_data([500] * 40), "cross_entropy") for _ in range(5)]
    failed = []

    def wait(future):
        with pytest.raises(EngineClosedError):
            future.result(20)
        failed.append(future)

    threads = [threading.Thread(target=wait, args=(future,)) for future in futures]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    started = time.monotonic()
    service.close()
    assert time.monotonic() - started < 15
    for thread in threads:
        thread.join(5)
    assert len(failed) == len(futures)


def test_leaving_the_block_closes_on_errors_too(options):
    with pytest.raises(KeyError), ServiceClient(engine_options=options) as service:
        raise KeyError("x")
    with pytest.raises(EngineClosedError):
        service.get_server_capabilities()


def test_a_home_that_cannot_be_written_is_an_error_of_the_call(tmp_path):
    (tmp_path / "home").write_text("a file")
    with ServiceClient(engine_options=EngineOptions(home=str(tmp_path / "home"))) as service:
        for _ in range(2):
            with pytest.raises(RequestError, match="expected to write it; got Not a directory"):
                service.create_lora_training_client("tiny", rank=2)
        service.create_sampling_client(base_model="tiny")
