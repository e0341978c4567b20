"""Direct preference optimisation: a custom loss that teaches `tiny` to prefer the right sum.

python examples/dpo.py
"""

import random

from tinker_rl import AdamParams, ServiceClient
from tinker_rl.envs.arithmetic_problems import sample_problem
from tinker_rl.preference import dpo_loss, interleave_pairs
from tinker_rl.renderers import TrainOnWhat, get_renderer
from tinker_rl.supervised.data import conversation_to_datum


def draw_pairs(count, split, renderer, seed):
    """Pairs of a right answer and one that is off by one to nine."""
    rng = random.Random(seed)
    answers = {"chosen": [], "rejected": []}
    for _ in range(count):
        problem = sample_problem(rng, split)
        wrong = problem.answer + rng.choice([-1, 1]) * rng.randint(1, 9)
        for kind, answer in (("chosen", problem.answer), ("rejected", wrong)):
            conversation = [
                {"role": "user", "content": problem.question},
                {"role": "assistant", "content": f"\\boxed{{{answer}}}"},
            ]
            answers[kind].append(
                conversation_to_datum(
                    conversation, renderer, None, TrainOnWhat.LAST_ASSISTANT_MESSAGE, "none"
                )
            )
    return interleave_pairs(**answers)


def reference_logprobs(client, data):
    output = client.forward(data, "cross_entropy").result()
    return [out["logprobs"].to_torch() for out in output.loss_fn_outputs]


def main(steps=30, pairs=32):
    with ServiceClient() as service_client:
        client = service_client.create_lora_training_client("tiny", rank=32, seed=0)
        renderer = get_renderer("qwen3_instruct", client.get_tokenizer())
        held_out = draw_pairs(100, "test", renderer, seed=-1)
        held_out_reference = reference_logprobs(client, held_out)
        batches = [draw_pairs(pairs, "train", renderer, seed) for seed in range(steps)]
        # An adapter that has not trained changes nothing: the client is its own reference.
        references = [reference_logprobs(client, data) for data in batches]
        for step, (data, reference) in enumerate(zip(batches, references, strict=True)):
            fwdbwd = client.forward_backward_custom(data, dpo_loss(reference, beta=0.1))
            client.optim_step(AdamParams(learning_rate=1e-3))
            metrics = fwdbwd.result().metrics
            print(
                f"step {step:2d}  loss {metrics['loss:sum']:.3f}"
                f"  accuracy {metrics['accuracy:mean']:.2f}  margin {metrics['margin:mean']:+.2f}"
                f"  tokens computed {metrics['unique_tokens:sum']:.0f}"
                f" of {metrics['tokens:sum']:.0f}"
            )
        loss = dpo_loss(held_out_reference, beta=0.1)
        # Without an optimiser step after it, this only measures.
        metrics = client.forward_backward_custom(held_out, loss).result().metrics
        print(f"held-out pairs: accuracy {metrics['accuracy:mean']:.2f}")
        return metrics


if __name__ == "__main__":
    main()
