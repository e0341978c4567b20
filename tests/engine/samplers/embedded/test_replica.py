import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from tinker_rl import LoraConfig
from tinker_rl.engine.base_model import load_base_model
from tinker_rl.engine.learner import Learner
from tinker_rl.engine.samplers.base import AdapterWeights
from tinker_rl.engine.samplers.embedded import EmbeddedSampler, Replica
from tinker_rl.engine.scoring import LanguageModel
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
        output.loss_fn_outputs[0]["logprobs"].to_torch(), expected, rtol=0, atol=3e-5
    )


def randomised(model):
    """Weights large enough that a mistake shows."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


NARROW = {"vocab_size": 128, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}


def test_an_architecture_of_another_shape_samples_and_trains_the_same(
    make_job, drain, run, make_data
):
    """GPT-2: learned positions, one matrix for query, key and value, transposed weights."""
    model = randomised(GPT2LMHeadModel(GPT2Config(**NARROW, eos_token_id=2, bos_token_id=1)))
    sampler = EmbeddedSampler(Replica(model), str)
    sampler.add(make_job(0, (5, 6, 7), num_samples=2, max_tokens=20))
    sampler.add(make_job(1, (9,), max_tokens=20))
    done = drain(sampler)
    (datum,) = make_data([12], vocab=128)
    inputs = [((5, 6, 7), s) for s in done[0].sequences] + [((9,), done[1].sequences[0])]
    ids = torch.tensor([datum.model_input.to_ints()])
    targets = datum.loss_fn_inputs["target_tokens"].to_torch()
    with torch.no_grad():
        for prompt, sequence in inputs:
            tokens = torch.tensor([[*prompt, *sequence.tokens]])
            expected = model(input_ids=tokens).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            chosen = expected.gather(1, torch.tensor(sequence.tokens)[:, None])[:, 0]
            torch.testing.assert_close(torch.tensor(sequence.logprobs), chosen, rtol=0, atol=2e-5)
        plain = model(input_ids=ids).logits[0].log_softmax(-1).gather(1, targets[:, None])[:, 0]
    learner = Learner(model, "gpt2", 64)
    adapter = learner.create("model:0", LoraConfig(rank=2, seed=0))
    assert any("c_attn" in name for name in adapter.params)
    output = run(learner.forward_backward("model:0", [datum], "cross_entropy"))
    got = output.loss_fn_outputs[0]["logprobs"].to_torch()
    torch.testing.assert_close(got, plain, rtol=0, atol=2e-5)


@pytest.mark.parametrize("flags", [("attn",), ("mlp",), ("attn", "mlp")])
def test_modules_of_one_name_in_two_blocks_are_told_apart(flags):
    """GPT-2 calls a layer of its attention, and one of its MLP, `c_proj`."""
    model = GPT2LMHeadModel(GPT2Config(**NARROW, eos_token_id=2, bos_token_id=1)).eval()
    config = LoraConfig(
        rank=2, train_attn="attn" in flags, train_mlp="mlp" in flags, train_unembed=False
    )
    adapter = Learner(model, "gpt2", 64).create("model:0", config)
    blocks = {name.split(".")[5] for name in adapter.params}
    assert blocks == set(flags)


def test_attention_that_cannot_be_exchanged_is_refused_and_trains_all_the_same(run, make_data):
    model = randomised(GPTJForCausalLM(GPTJConfig(**NARROW, rotary_dim=8, eos_token_id=2)))
    with pytest.raises(UnsupportedError, match="whose attention can be exchanged; got GPTJ"):
        Replica(model)
    learner = Learner(model, "gptj", 64)
    learner.create("model:0", LoraConfig(rank=2, seed=0))
    run(learner.forward_backward("model:0", make_data([12], vocab=128), "cross_entropy"))


def test_a_model_that_does_more_than_its_configuration_says_is_refused(tiny):
    """Caught by comparing a few tokens with the model itself."""
    original = LanguageModel.hidden_states

    def without_the_last_norm(self, input_ids, **kwargs):
        return 0.5 * original(self, input_ids, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LanguageModel, "hidden_states", without_the_last_norm)
        with pytest.raises(UnsupportedError, match="more than the unembedding"):
            Learner(tiny, "tiny", 1024)
        patch.setattr(LanguageModel, "check_supported", lambda self: None)
        with pytest.raises(UnsupportedError, match="expected the logprobs of Qwen3ForCausalLM"):
            Replica(tiny)


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
