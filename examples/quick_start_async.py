"""The quick start with `await`: futures are awaited twice. Runs on asyncio and on trio.

python examples/quick_start_async.py
"""

from __future__ import annotations

import anyio
from quick_start import EXAMPLES, loss_per_token, pig_latin_datum

from tinker_rl import AdamParams, ModelInput, SamplingParams, ServiceClient


async def main(base_model: str = "tiny", steps: int = 60) -> str:
    service_client = ServiceClient()
    training_client = await service_client.create_lora_training_client_async(base_model, rank=32)
    tokenizer = training_client.get_tokenizer()
    data = [pig_latin_datum(english, pig, tokenizer) for english, pig in EXAMPLES]

    for step in range(steps):
        # The first await returns when the request has its place in the queue ...
        fwdbwd_future = await training_client.forward_backward_async(data, "cross_entropy")
        optim_future = await training_client.optim_step_async(AdamParams(learning_rate=2e-3))
        # ... the second gives the result.
        output = await fwdbwd_future
        await optim_future
        if step % 10 == 0 or step == steps - 1:
            print(f"step {step}: loss per token {loss_per_token(output, data):.3f}")

    sampling_client = await training_client.save_weights_and_get_sampling_client_async()
    prompt = ModelInput.from_ints(tokenizer.encode("English: donut shop\nPig Latin:"))
    params = SamplingParams(max_tokens=20, temperature=0.0, stop=["\n"])
    response = await sampling_client.sample_async(prompt, num_samples=1, sampling_params=params)
    answer = tokenizer.decode(response.sequences[0].tokens)
    print(f"donut shop -> {answer.strip()}")
    return answer.strip()


if __name__ == "__main__":
    anyio.run(main)
