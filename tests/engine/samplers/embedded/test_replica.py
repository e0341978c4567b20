import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, MistralConfig, MistralForCausalLM

from tinker_rl import LoraConfig
from tinker_rl.engine.base_model import load_base_model
from tinker_rl.engine.learner import Learner
from tinker_rl.engine.samplers.base import AdapterWeights
from tinker_rl.engine.samplers.embedded import Replica
from tinker_rl.errors import UnsupportedError

SMALL = {
    "vocab_size": 1024,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


@pytest.fixture
def tiny():
    return load_base_model("tiny", torch.device("cpu"), torch.float32)


def test_the_base_tensors_are_shared_not_copied(tiny):
    replica = Replica(tiny)
    theirs = {p.data_ptr() for p in tiny.parameters()}
    assert all(layer.weight.data_ptr() in theirs for layer in replica.layers.values())
    assert {p.data_ptr() for p in replica.language_model.model.parameters()} <= theirs


def test_putting_a_version_in_place_touches_no_learner(tiny):
    replica = Replica(tiny)
    learner = Learner(tiny, "tiny", 1024)
    learner.create("model:0", LoraConfig(rank=2, seed=0))
    base = {name: p.clone() for name, p in learner._model.named_parameters()}
    tensors = {name: torch.ones_like(t) for name, t in learner.weights("model:0").items()}
    version = replica.prepare(AdapterWeights(tensors, 16.0, "hash"))
    tensors.clear()
    replica.use(version)
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        changed = learner._model(input_ids=ids).logits
    replica.use(None)
    assert all(layer.merged is None for layer in replica.layers.values())
    assert all(torch.equal(base[name], p) for name, p in learner._model.named_parameters())
    with torch.no_grad():
        torch.testing.assert_close(changed, learner._model(input_ids=ids).logits, rtol=0, atol=0)


def test_weights_of_another_architecture_are_refused(tiny):
    tensors = {f"base_model.model.encoder.lora_{which}.weight": torch.zeros(2, 2) for which in "AB"}
    with pytest.raises(UnsupportedError, match="got encoder"):
        Replica(tiny).prepare(AdapterWeights(tensors, 1.0, "hash"))


def test_sliding_windows_are_refused_for_sampling_and_train_all_the_same(run, make_data):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = MistralForCausalLM(MistralConfig(**SMALL, sliding_window=4)).eval()
    with pytest.raises(UnsupportedError, match=r"expected full attention .* MistralForCausalLM"):
        Replica(model)
    (datum,) = make_data([20])
    ids = torch.tensor([datum.model_input.to_ints()])
    targets = datum.loss_fn_inputs["target_tokens"].to_torch()[:, None]
    with torch.no_grad():
        expected = model(input_ids=ids).logits[0].log_softmax(-1).gather(1, targets)[:, 0]
    learner = Learner(model, "mistral", 64)
    learner.create("model:0", LoraConfig(rank=2, seed=0))
    output = run(learner.forward_backward("model:0", [datum], "cross_entropy"))
    torch.testing.assert_close(
        output.loss_fn_outputs[0]["logprobs"].to_torch(), expected, rtol=0, atol=1e-5
    )


def test_full_attention_without_a_window_is_taken():
    model = MistralForCausalLM(MistralConfig(**SMALL, sliding_window=None)).eval()
    assert Replica(model).vocab_size == 1024


def test_logits_that_are_capped_are_refused_for_both():
    config = Gemma2Config(**SMALL, query_pre_attn_scalar=8, final_logit_softcapping=30.0)
    model = Gemma2ForCausalLM(config).eval()
    with pytest.raises(UnsupportedError):
        Replica(model)
    with pytest.raises(UnsupportedError, match="final_logit_softcapping"):
        Learner(model, "gemma", 64)
