"""The Tinker quick start, on your own machine: teach a model Pig Latin from a few examples.

python examples/quick_start.py
"""

from __future__ import annotations

import numpy as np

from tinker_rl import AdamParams, Datum, ModelInput, SamplingParams, ServiceClient

EXAMPLES = [
    ("banana split", "anana-bay plit-say"),
    ("quantum physics", "uantum-qay ysics-phay"),
    ("donut shop", "onut-day op-shay"),
    ("pickle jar", "ickle-pay ar-jay"),
    ("space exploration", "ace-spay exploration-way"),
    ("rubber duck", "ubber-ray uck-day"),
    ("coding wizard", "oding-cay izard-way"),
]


def pig_latin_datum(english: str, pig_latin: str, tokenizer) -> Datum:
    """Train on the answer only: the prompt's tokens have weight 0."""
    prompt = tokenizer.encode(f"English: {english}\nPig Latin:", add_special_tokens=True)
    answer = tokenizer.encode(f" {pig_latin}\n\n", add_special_tokens=False)
    tokens = prompt + answer
    weights = [0] * len(prompt) + [1] * len(answer)
    return Datum(
        model_input=ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": tokens[1:], "weights": weights[1:]},
    )


def loss_per_token(output, data: list[Datum]) -> float:
    """Mean negative logprob of the tokens that were trained on."""
    logprobs = np.concatenate([out["logprobs"].to_numpy() for out in output.loss_fn_outputs])
    weights = np.concatenate([d.loss_fn_inputs["weights"].to_numpy() for d in data])
    return float(-(logprobs * weights).sum() / weights.sum())


def main(base_model: str = "tiny", steps: int = 60) -> str:
    service_client = ServiceClient()
    print("Models:")
    for model in service_client.get_server_capabilities().supported_models:
        print(f"- {model.model_name} {model.unavailable_reason or ''}")

    training_client = service_client.create_lora_training_client(base_model=base_model, rank=32)
    tokenizer = training_client.get_tokenizer()
    data = [pig_latin_datum(english, pig, tokenizer) for english, pig in EXAMPLES]

    for step in range(steps):
        # Both are queued before either is waited for: they run in one clock cycle.
        fwdbwd_future = training_client.forward_backward(data, "cross_entropy")
        optim_future = training_client.optim_step(AdamParams(learning_rate=2e-3))
        output = fwdbwd_future.result()
        optim_future.result()
        if step % 10 == 0 or step == steps - 1:
            print(f"step {step}: loss per token {loss_per_token(output, data):.3f}")

    sampling_client = training_client.save_weights_and_get_sampling_client(name="pig-latin")
    prompt = ModelInput.from_ints(tokenizer.encode("English: donut shop\nPig Latin:"))
    params = SamplingParams(max_tokens=20, temperature=0.0, stop=["\n"])
    response = sampling_client.sample(prompt, num_samples=1, sampling_params=params).result()
    answer = tokenizer.decode(response.sequences[0].tokens)
    print(f"donut shop -> {answer.strip()}")
    return answer.strip()


if __name__ == "__main__":
    main()
