"""Weights that are not those of the learner are caught before anything is sampled from them."""

import gc
import itertools
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tinker_rl import AdamParams, Datum, ModelInput, SamplingParams
from tinker_rl.engine.samplers.base import AdapterWeights
from tinker_rl.engine.samplers.embedded import EmbeddedSampler
from tinker_rl.engine.samplers.vllm import sampler as module
from tinker_rl.engine.samplers.vllm.folders import AdapterFolders
from tinker_rl.engine.samplers.vllm.process import VllmProcess
from tinker_rl.engine.samplers.vllm.protocol import Unload
from tinker_rl.engine.sentinel import Probe, check_hash, check_probe
from tinker_rl.errors import WeightSyncError
from tinker_rl.types import SampleResponse

PROMPT = ModelInput.from_ints(range(30, 50))


seeds = itertools.count(100)
"""Equal weights would be one version, loaded once for all tests."""


@pytest.fixture
def training(engine, models):
    client = engine.create_lora_training_client(models["qwen3"], rank=4, seed=next(seeds))
    step(client, 1e-2)
    return client


def step(training, learning_rate):
    tokens = np.random.default_rng(0).integers(0, 1024, 30)
    datum = Datum(ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:]})
    training.forward_backward([datum], "cross_entropy")
    training.optim_step(AdamParams(learning_rate=learning_rate)).result()


def tokens_of(client):
    given_ = SamplingParams(max_tokens=20, seed=1, stop=[])
    return client.sample(PROMPT, 2, given_).result().sequences[1].tokens


def changed_files(monkeypatch, change):
    """Let something happen to the next adapter between its writing and its loading."""
    original, seen = AdapterFolders.write, []

    def write(folders, name, weights):
        folder = original(folders, name, weights)
        if not seen:
            seen.append(folder)
            change(folder)
        return folder

    monkeypatch.setattr(AdapterFolders, "write", write)
    return seen


def changed_tensors(monkeypatch, change):
    """Likewise, inside the engine's own process."""
    original, seen = EmbeddedSampler.add_version, []

    def add_version(sampler, version, weights):
        if not seen:
            seen.append(version)
            tensors = change(dict(weights.tensors))
            weights = AdapterWeights(tensors, weights.scale, weights.content_hash)
        original(sampler, version, weights)

    monkeypatch.setattr(EmbeddedSampler, "add_version", add_version)
    return seen


def flip_a_byte(folder):
    file = Path(folder) / "adapter_model.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 0x10
    file.write_bytes(bytes(data))


def rescale(folder):
    file = Path(folder) / "adapter_config.json"
    file.write_text(file.read_text().replace('"lora_alpha": 32', '"lora_alpha": 16'))


def cut_short(folder):
    file = Path(folder) / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def zero_a_tensor(folder):
    file = Path(folder) / "adapter_model.safetensors"
    tensors = load_file(file)
    name = sorted(tensors)[3]
    save_file(tensors | {name: torch.zeros_like(tensors[name])}, file)


FILE_FAULTS = {
    "one bit": (flip_a_byte, "expected the sampler to hold weights of hash"),
    "a layer": (zero_a_tensor, "expected the sampler to hold weights of hash"),
    "its scale": (rescale, "logprobs of the probe"),
    "its end": (cut_short, "expected the sampler to load version"),
    "all of it": (shutil.rmtree, "expected the sampler to load version"),
}


def zeroed(tensors):
    name = sorted(tensors)[3]
    return tensors | {name: torch.zeros_like(tensors[name])}


def stale(tensors):
    """As if an earlier version had been loaded: the change of a step is gone."""
    return {name: tensor - 2e-3 for name, tensor in tensors.items()}


TENSOR_FAULTS = {"a layer": zeroed, "a step": stale}


def faults_of(sampler):
    return FILE_FAULTS if sampler == "vllm" else TENSOR_FAULTS


@pytest.mark.parametrize("fault", sorted({*FILE_FAULTS, *TENSOR_FAULTS}))
def test_an_adapter_that_was_damaged_on_its_way_is_caught(sampler, training, monkeypatch, fault):
    if fault not in faults_of(sampler):
        pytest.skip(f"not a fault of the {sampler} sampler")
    good = training.save_weights_and_get_sampling_client()
    before = tokens_of(good)
    step(training, 1e-3)
    with monkeypatch.context() as patch:
        if sampler == "vllm":
            change, message = FILE_FAULTS[fault]
            seen = changed_files(patch, change)
        else:
            message = "logprobs of the probe"
            seen = changed_tensors(patch, TENSOR_FAULTS[fault])
        with pytest.raises(WeightSyncError, match=message) as caught:
            training.save_weights_and_get_sampling_client()
        assert seen
    assert "Likely causes" in str(caught.value)
    assert caught.value.version in str(caught.value)
    if "probe" in message:
        assert caught.value.difference > 1e-3
    assert tokens_of(good) == before  # the last good version serves on
    again = training.save_weights_and_get_sampling_client()  # and the next publish is well
    assert again.weight_sync.max_abs_logprob_diff < 1e-3


def test_an_older_version_under_a_new_name_is_caught_by_its_hash(sampler, training, monkeypatch):
    """The change of one small step is far below what rounding in bfloat16 allows."""
    if sampler != "vllm":
        pytest.skip("the embedded sampler has no files")
    with monkeypatch.context() as patch:
        seen = changed_files(patch, lambda folder: None)
        old = training.save_weights_and_get_sampling_client()
        step(training, 1e-6)
    older = seen[0]

    def replace(folder):
        shutil.copy(older / "adapter_model.safetensors", folder / "adapter_model.safetensors")

    with monkeypatch.context() as patch:
        changed_files(patch, replace)
        with pytest.raises(WeightSyncError, match="serves an older version"):
            training.save_weights_and_get_sampling_client()
    assert tokens_of(old)


def test_an_engine_that_still_holds_another_adapter_of_that_number_is_caught(
    sampler, training, monkeypatch
):
    """vLLM does not load a number that it knows: the classic way to sample stale weights."""
    if sampler != "vllm":
        pytest.skip("a fault of vLLM")

    def versions():
        samplers = [each for each in gc.get_objects() if type(each) is module.VllmSampler]
        return [name for sampler in samplers for name in sampler._versions]

    original, send, numbers = module.Load, VllmProcess.send, []

    def last_number(number, name, folder):
        numbers.append(number)
        return original(number - 1, name, folder)

    def send_no_unload(process, command):
        if not isinstance(command, Unload):
            send(process, command)

    with monkeypatch.context() as patch:
        patch.setattr(VllmProcess, "send", send_no_unload)
        old = training.save_weights_and_get_sampling_client()
        tokens_of(old)
        name = next(v for v in versions() if v.startswith(old.weight_sync.content_hash[:32]))
        del old
        end = time.monotonic() + 60
        while name in versions():
            assert time.monotonic() < end
            gc.collect()
            time.sleep(0.02)
        step(training, 1e-6)
        patch.setattr(module, "Load", last_number)
        with pytest.raises(WeightSyncError, match="in vLLM; got another"):
            training.save_weights_and_get_sampling_client()
    assert numbers
    assert training.save_weights_and_get_sampling_client().weight_sync.max_abs_logprob_diff < 1e-3


# ---------------------------------------------------------------------------------- comparisons


def response(logprobs):
    return SampleResponse(
        sequences=[], prompt_logprobs_np=np.array([np.nan, *logprobs], np.float32)
    )


finite = st.floats(-20, 0, width=32)


@given(st.lists(st.lists(finite, min_size=1, max_size=8), min_size=1, max_size=4), st.data())
def test_the_greatest_difference_is_what_counts(logprobs, data):
    probe = Probe(
        tuple((0,) * (len(row) + 1) for row in logprobs),
        tuple(np.array(row, np.float32) for row in logprobs),
    )
    exact = [response(row) for row in logprobs]
    assert check_probe("v", probe, exact, 1e-9) == 0
    row = data.draw(st.integers(0, len(logprobs) - 1))
    place = data.draw(st.integers(0, len(logprobs[row]) - 1))
    off = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.5]))
    moved = [list(each) for each in logprobs]
    moved[row][place] += off
    wrong = [response(each) for each in moved]
    with pytest.raises(WeightSyncError, match="version v"):
        check_probe("v", probe, wrong, 0.1)
    if off == 0.5:
        assert check_probe("v", probe, wrong, 1.0) == pytest.approx(0.5, abs=1e-5)


def test_hashes_are_compared():
    weights = AdapterWeights({}, 1.0, "a" * 64)
    check_hash(weights, "a" * 64)
    with pytest.raises(WeightSyncError, match=r"got bbbbbbbbbbbbbbbb") as caught:
        check_hash(weights, "b" * 64)
    assert caught.value.version == weights.version
