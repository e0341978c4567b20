"""The baseline of `sampler.py`: a bare `vllm.LLM` with a LoRA adapter, in a process of its own.

    python benchmarks/bare_vllm.py MODEL ADAPTER [--mended]

Reads works as JSON lines, and answers each with its seconds and tokens. `--mended` puts the
package's patches of vLLM into the workers, so that only what is around them is compared.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

ENGINE: dict[str, Any] = {
    "max_model_len": 1024,
    "max_num_seqs": 256,
    "max_loras": 4,
    "max_lora_rank": 32,
    "kv_cache_memory_bytes": 1_000_000_000,
    "enable_prefix_caching": True,
    "logprobs_mode": "processed_logprobs",
}
"""What both sides are built with."""


def main() -> None:
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt
    from vllm.lora.request import LoRARequest

    model, adapter, *options = sys.argv[1:]
    config = json.loads((Path(model) / "config.json").read_text())
    dtype = config.get("dtype", config.get("torch_dtype", "float32"))
    if "--mended" in options:
        ENGINE["worker_extension_cls"] = "tinker_rl.engine.samplers.vllm.extension.WorkerExtension"
    import torch

    llm = LLM(
        model, dtype=dtype, enable_lora=True, enforce_eager=not torch.cuda.is_available(), **ENGINE
    )
    lora = LoRARequest("adapter", 1, adapter)
    print("READY", flush=True)
    for line in sys.stdin:
        work = json.loads(line)
        prompts = [TokensPrompt(prompt_token_ids=prompt) for prompt in work["prompts"]]
        params = [
            SamplingParams(
                n=work.get("samples", 1),
                max_tokens=length,
                ignore_eos=True,
                logprobs=0,
                detokenize=False,
                seed=i if work["seeded"] else None,
            )
            for i, length in enumerate(work["lengths"])
        ]
        llm.reset_prefix_cache()
        began = time.perf_counter()
        outputs = llm.generate(
            prompts, params, lora_request=lora if work["adapter"] else None, use_tqdm=False
        )
        seconds = time.perf_counter() - began
        tokens = sum(len(sample.token_ids) for output in outputs for sample in output.outputs)
        print("RESULT", json.dumps({"seconds": seconds, "tokens": tokens}), flush=True)


if __name__ == "__main__":
    main()
