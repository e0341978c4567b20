import pytest
import torch

from tinker_rl import LoraConfig
from tinker_rl.engine.base_model import load_base_model
from tinker_rl.engine.learner import Learner, LearnerConfig
from tinker_rl.engine.work import known_peak_flops
from tinker_rl.errors import ConfigError


def learner_with(**options):
    model = load_base_model("tiny", torch.device("cpu"), torch.float32)
    learner = Learner(model, "tiny", 1024, LearnerConfig(**options))
    learner.create("model:0", LoraConfig(rank=4, seed=0))
    return learner


@pytest.mark.parametrize("forward_only", [False, True])
def test_utilisation_is_what_the_mathematics_needs_over_what_the_device_could_do(
    run, make_data, forward_only
):
    """Against a count by torch itself of the same pass through the bare model."""
    from torch.utils.flop_counter import FlopCounterMode

    (datum,) = make_data([200])
    learner = learner_with(peak_flops=1e9)
    output = run(
        learner.forward_backward("model:0", [datum], "cross_entropy", forward_only=forward_only)
    )
    metrics = output.metrics
    seconds = metrics["tokens:sum"] / metrics["tokens_per_second:mean"]
    counted = metrics["mfu:mean"] * 1e9 * seconds

    model = load_base_model("tiny", torch.device("cpu"), torch.float32)
    model.set_attn_implementation("eager")
    embeddings = model.get_input_embeddings()(torch.tensor([datum.model_input.to_ints()]))
    with FlopCounterMode(display=False) as flops:
        logits = model(inputs_embeds=embeddings.requires_grad_(), use_cache=False).logits
        if not forward_only:
            logits.sum().backward()
    # Eager attention computes all pairs, ours the half that is causal; and weights of 0 in a third
    # of the positions spare their way back through the unembedding.
    assert 0.75 * flops.get_total_flops() < counted < flops.get_total_flops()


def test_without_a_known_peak_there_is_no_utilisation(run, make_data):
    assert known_peak_flops(torch.device("cpu")) is None
    output = run(learner_with().forward_backward("model:0", make_data([9]), "cross_entropy"))
    assert "mfu:mean" not in output.metrics


def test_every_metric_is_named_with_its_reduction(run, make_data):
    learner = learner_with(peak_flops=1e12)
    data = make_data([9, 7])
    output = run(learner.forward_backward("model:0", [*data, *data], "cross_entropy"))
    assert set(output.metrics) == {
        "loss:sum",
        "tokens:sum",
        "unique_tokens:sum",
        "tokens_per_second:mean",
        "mfu:mean",
    }
    assert output.metrics["tokens:sum"] == 32
    assert output.metrics["unique_tokens:sum"] == 16
    assert all(key.count(":") == 1 for key in output.metrics)


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_of_no_token_is_refused(budget):
    with pytest.raises(ConfigError, match=r"LearnerConfig\.token_budget: expected 1 or more"):
        learner_with(token_budget=budget)
