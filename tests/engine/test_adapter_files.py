import resource
import signal
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from tinker_rl import AdamParams, LoraConfig
from tinker_rl.engine import adapter_files
from tinker_rl.errors import CheckpointError
from tinker_rl.lineup import model_path

STEP = AdamParams(learning_rate=1e-2, weight_decay=0.01)


@pytest.fixture
def work(make_data):
    return [make_data([9, 6], seed) for seed in range(6)]


def save(learner, name, folder: Path) -> int:
    folder.mkdir(exist_ok=True)
    adapter = learner.adapter(name)
    adapter_files.write_adapter(folder, learner.weights(name), adapter.peft_config, "tiny")
    adapter_files.write_optimizer(folder, adapter_files.optimizer_state(adapter))
    return adapter.steps


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("pending", [0, 1, 2])
@pytest.mark.parametrize("other_name", ["model:0", "other:7"])
def test_going_on_from_a_checkpoint_equals_never_having_stopped(
    base_model, make_learner, run, work, tmp_path, pending, other_name
):
    """With `pending` requests whose gradient no step had used; under any name."""
    unbroken = make_learner(base_model)
    unbroken.create("model:0", LoraConfig(rank=4, seed=0))
    for data in work[:2]:
        run(unbroken.forward_backward("model:0", data, "cross_entropy"))
        unbroken.optim_step("model:0", STEP)
    for data in work[2 : 2 + pending]:
        run(unbroken.forward_backward("model:0", data, "cross_entropy"))
    steps = save(unbroken, "model:0", tmp_path / "state")

    resumed = make_learner(base_model)
    resumed.create(other_name, LoraConfig(rank=4, seed=99))
    run(resumed.forward_backward(other_name, work[5], "cross_entropy"))  # is to be forgotten
    adapter_files.load_checkpoint(
        resumed, other_name, tmp_path / "state", optimizer=True, steps=steps
    )
    for learner, name in ((unbroken, "model:0"), (resumed, other_name)):
        for data in work[3:]:
            run(learner.forward_backward(name, data, "cross_entropy"))
            learner.optim_step(name, STEP)
    assert equal(unbroken.weights("model:0"), resumed.weights(other_name))
    assert resumed.adapter(other_name).steps == unbroken.adapter("model:0").steps == 5


def test_without_the_optimiser_its_moments_start_afresh(make_learner, run, work, tmp_path):
    learner = make_learner()
    learner.create("model:0", LoraConfig(rank=4, seed=0))
    for data in work[:3]:
        run(learner.forward_backward("model:0", data, "cross_entropy"))
        learner.optim_step("model:0", STEP)
    save(learner, "model:0", tmp_path / "state")
    weights = learner.weights("model:0")
    run(learner.forward_backward("model:0", work[0], "cross_entropy"))
    adapter_files.load_checkpoint(learner, "model:0", tmp_path / "state", optimizer=False, steps=3)
    adapter = learner.adapter("model:0")
    assert equal(weights, learner.weights("model:0"))
    assert adapter.gradients == {}
    assert adapter.steps == 0
    assert not adapter.optimizer.state

    # The first step of fresh moments is the learning rate, whatever the gradient's size.
    run(learner.forward_backward("model:0", work[1], "cross_entropy"))
    learner.optim_step("model:0", AdamParams(learning_rate=1e-3))
    moved = [learner.weights("model:0")[key] - weights[key] for key in weights]
    assert max(float(m.abs().max()) for m in moved) == pytest.approx(1e-3, rel=1e-2)


def test_a_checkpoint_that_does_not_fit_changes_nothing(make_learner, run, work, tmp_path):
    learner = make_learner()
    configs = {
        "rank": LoraConfig(rank=8, seed=0),
        "targets": LoraConfig(rank=4, seed=0, train_mlp=False),
    }
    learner.create("model:0", LoraConfig(rank=4, seed=0))
    run(learner.forward_backward("model:0", work[0], "cross_entropy"))
    learner.optim_step("model:0", STEP)
    save(learner, "model:0", tmp_path / "same")
    run(learner.forward_backward("model:0", work[1], "cross_entropy"))
    weights, state = (
        learner.weights("model:0"),
        adapter_files.optimizer_state(learner.adapter("model:0")),
    )
    for kind, config in configs.items():
        learner.create(f"other:{kind}", config)
        save(learner, f"other:{kind}", tmp_path / kind)
    (tmp_path / "same" / "optimizer.safetensors").unlink()
    (tmp_path / "damaged").mkdir()
    for file in (tmp_path / "rank").iterdir():
        (tmp_path / "damaged" / file.name).write_bytes(b"nothing")
    for folder, reason in (
        ("rank", "expected an adapter of"),
        ("targets", "expected an adapter of"),
        ("same", "got sampler weights"),
        ("damaged", "that can be read"),
        ("missing", "that can be read"),
    ):
        with pytest.raises(CheckpointError, match=reason):
            adapter_files.load_checkpoint(
                learner, "model:0", tmp_path / folder, optimizer=True, steps=1
            )
        assert equal(weights, learner.weights("model:0"))
        assert equal(state, adapter_files.optimizer_state(learner.adapter("model:0")))


def test_an_optimiser_of_other_parameters_is_refused(make_learner, run, work, tmp_path):
    learner = make_learner()
    learner.create("model:0", LoraConfig(rank=4, seed=0))
    run(learner.forward_backward("model:0", work[0], "cross_entropy"))
    save(learner, "model:0", tmp_path / "state")
    adapter_files.write_optimizer(tmp_path / "state", {"step.encoder.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"got 'step\.encoder\.weight'"):
        adapter_files.load_checkpoint(
            learner, "model:0", tmp_path / "state", optimizer=True, steps=1
        )


def test_an_adapter_that_has_not_trained_can_be_saved(make_learner, tmp_path):
    learner = make_learner()
    learner.create("model:0", LoraConfig(rank=4, seed=0))
    learner.create("model:1", LoraConfig(rank=4, seed=1))
    steps = save(learner, "model:0", tmp_path / "state")
    adapter_files.load_checkpoint(
        learner, "model:1", tmp_path / "state", optimizer=True, steps=steps
    )
    assert equal(learner.weights("model:0"), learner.weights("model:1"))


@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings")  # nothing is merged here
def test_peft_loads_the_folder_as_it_is(base_model, make_learner, run, make_data, tmp_path):
    learner = make_learner(base_model)
    learner.create("model:0", LoraConfig(rank=4, seed=0))
    (datum,) = make_data([15])
    for _ in range(3):
        run(learner.forward_backward("model:0", [datum], "cross_entropy"))
        learner.optim_step("model:0", STEP)
    save(learner, "model:0", tmp_path / "adapter")
    (tmp_path / "adapter" / "optimizer.safetensors").unlink()
    output = run(learner.forward_backward("model:0", [datum], "cross_entropy", forward_only=True))

    base = AutoModelForCausalLM.from_pretrained(model_path(base_model), dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    ids = torch.tensor([datum.model_input.to_ints()])
    targets = datum.loss_fn_inputs["target_tokens"].to_torch()[:, None]
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0]
    np.testing.assert_allclose(
        output.loss_fn_outputs[0]["logprobs"].to_numpy(),
        logits.log_softmax(-1).gather(1, targets)[:, 0],
        atol=2e-5,
    )
    rank_of_file = peft.PeftConfig.from_pretrained(str(tmp_path / "adapter"))
    assert (rank_of_file.r, rank_of_file.lora_alpha) == (4, 32)
    assert rank_of_file.inference_mode
    size = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    numbers = sum(t.numel() for t in learner.weights("model:0").values())
    assert size < 4 * numbers + 20_000  # and not the whole unembedding besides


def test_a_disk_that_is_full_is_an_error_of_the_disk(make_learner, tmp_path):
    learner = make_learner()
    adapter = learner.create("model:0", LoraConfig(rank=4, seed=0))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            adapter_files.write_adapter(
                tmp_path, learner.weights("model:0"), adapter.peft_config, "tiny"
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
