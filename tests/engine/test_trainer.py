"""What requests to a model do that no client asks for, and what failed ones leave behind."""

import pytest

from tinker_rl import LoraConfig
from tinker_rl.errors import CheckpointError, ConfigError, UnknownNameError
from tinker_rl.requests import (
    CreateModel,
    CreateModelFromState,
    CreateSampler,
    ForwardBackward,
    GetInfo,
    ListTrainingRuns,
    OptimStep,
    PublishWeights,
    ReleaseSampler,
    SaveWeightsForSampler,
    UnloadModel,
)
from tinker_rl.types import AdamParams


@pytest.fixture
def submit(service):
    return lambda request: service._backend.submit(request).result(30)


@pytest.fixture
def model_id(submit):
    request = CreateModel(base_model="tiny", lora_config=LoraConfig(rank=2, seed=0))
    return submit(request).model_id


def test_a_model_that_was_unloaded_is_unknown_and_the_others_go_on(submit, model_id, make_data):
    request = CreateModel(base_model="tiny", lora_config=LoraConfig(rank=2, seed=0))
    other = submit(request).model_id
    path = submit(SaveWeightsForSampler(model_id=model_id, name="kept")).path
    submit(UnloadModel(model_id=model_id))
    for request in (
        GetInfo(model_id=model_id),
        ForwardBackward(model_id=model_id, data=make_data([3]), loss_fn="cross_entropy"),
        OptimStep(model_id=model_id, adam_params=AdamParams()),
        PublishWeights(model_id=model_id),
        UnloadModel(model_id=model_id),
    ):
        with pytest.raises(UnknownNameError, match="expected a model that is loaded"):
            submit(request)
    assert submit(GetInfo(model_id=other)).model_id == other
    assert submit(CreateModelFromState(path=path, optimizer=False)).lora_rank == 2


@pytest.mark.parametrize("request_", [GetInfo(model_id="no"), PublishWeights(model_id="no")])
def test_a_model_of_nobody_is_unknown(submit, request_):
    with pytest.raises(UnknownNameError, match="expected a training model of this engine"):
        submit(request_)


def test_a_model_that_could_not_be_made_leaves_nothing_behind(submit, model_id):
    path = submit(SaveWeightsForSampler(model_id=model_id, name="bare")).path
    before = submit(ListTrainingRuns(limit=1000)).training_runs
    with pytest.raises(CheckpointError, match="got sampler weights"):
        submit(CreateModelFromState(path=path, optimizer=True))
    with pytest.raises(ConfigError):
        submit(CreateModel(base_model="tiny", lora_config=LoraConfig(rank=0)))
    after = submit(ListTrainingRuns(limit=1000)).training_runs
    assert [r.training_run_id for r in after] == [r.training_run_id for r in before]


def test_releasing_a_sampler_twice_or_one_of_nobody_does_nothing(submit):
    info = submit(CreateSampler(base_model="tiny"))
    for sampler_id in (info.sampler_id, info.sampler_id, "nobody"):
        assert submit(ReleaseSampler(sampler_id=sampler_id)) is None
    assert submit(CreateSampler(base_model="tiny")).sampler_id != info.sampler_id


def test_models_and_samplers_have_ids_of_the_protocol(submit, model_id):
    session, kind, number = model_id.split(":")
    assert kind == "train"
    assert number.isdigit()
    assert "/" not in session
    snapshot = submit(PublishWeights(model_id=model_id)).sampler_id
    following = submit(PublishWeights(model_id=model_id, kind="inflight")).sampler_id
    again = submit(PublishWeights(model_id=model_id, kind="inflight")).sampler_id
    assert len({snapshot, following}) == 2
    assert following == again
