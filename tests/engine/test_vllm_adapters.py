"""What `save_weights_for_sampler` writes, vLLM loads as it is. Runs where vLLM is installed."""

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from tinker_rl import AdamParams, Datum, ModelInput, ServiceClient
from tinker_rl.lineup import model_path

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make vllm)"),
]

SCORE = """
import sys
import numpy as np
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

if __name__ == "__main__":
    model, adapter, out, *tokens = sys.argv[1:]
    tokens = [int(token) for token in tokens]
    llm = LLM(model, dtype="float32", enable_lora=True, max_lora_rank=32, enforce_eager=True,
              max_model_len=256, gpu_memory_utilization=0.3)
    (scored,) = llm.generate(
        [{"prompt_token_ids": tokens}],
        SamplingParams(max_tokens=1, prompt_logprobs=0),
        lora_request=LoRARequest("trained", 1, adapter),
    )
    pairs = zip(scored.prompt_logprobs[1:], tokens[1:], strict=True)
    np.save(out, [at[token].logprob for at, token in pairs])
"""


def test_vllm_scores_a_published_adapter_as_the_learner_does(tmp_path):
    service = ServiceClient()
    client = service.create_lora_training_client("tiny", rank=8, seed=1)
    tokens = client.get_tokenizer().encode("17+25=? The answer is 42, of course.")
    data = [Datum(ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:]})]
    before = client.forward(data, "cross_entropy").result().loss_fn_outputs[0]["logprobs"]
    for _ in range(10):
        client.forward_backward(data, "cross_entropy").result()
        client.optim_step(AdamParams(learning_rate=1e-2)).result()
    learner = client.forward(data, "cross_entropy").result().loss_fn_outputs[0]["logprobs"]
    assert np.abs(learner.to_numpy() - before.to_numpy()).max() > 0.5  # the adapter matters

    path = client.save_weights_for_sampler("for-vllm").result().path
    run_id = path.removeprefix("tinker://").split("/")[0]
    home = os.environ["TINKER_RL_HOME"]
    adapter = f"{home}/runs/{run_id}/sampler_weights/for-vllm"
    service.close()

    script, out = tmp_path / "score.py", tmp_path / "logprobs.npy"
    script.write_text(SCORE)
    arguments = [model_path("tiny"), adapter, str(out), *map(str, tokens)]
    ours = {"VLLM_CPU_KVCACHE_SPACE": "1", "TORCH_COMPILE_DISABLE": "1"}
    ours["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # one process starts sooner than three
    environment = {**os.environ, **ours}
    # vLLM alone may die of a signal when its interpreter ends; what counts is what it wrote before.
    subprocess.run([sys.executable, script, *arguments], check=False, env=environment, timeout=300)
    assert out.exists()
    # Ten steps at a high rate make sharp logits: float32 leaves 2e-5 of them.
    np.testing.assert_allclose(np.load(out), learner.to_numpy(), atol=1e-4)
