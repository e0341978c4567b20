r"""Reinforcement learning in one file, over the client API alone: read it from top to bottom.

    python -m tinker_rl.recipes.rl_loop
    python -m tinker_rl.recipes.rl_loop dataset=gsm8k data_path=../shared/data/gsm8k max_steps=3

Each step asks `batch_size` problems, samples `group_size` answers to each, and raises the
probability of the answers that were better than the average of their group. `rl_basic` does the
same job with everything around it: evaluation, checkpoints, resume, concurrency.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import chz
import numpy as np

from tinker_rl import AdamParams, Datum, ModelInput, SamplingParams
from tinker_rl.envs.arithmetic_problems import format_question, sample_problem
from tinker_rl.envs.grading import extract_boxed, grade_answer
from tinker_rl.envs.gsm8k import QUESTION_SUFFIX, load_gsm8k
from tinker_rl.errors import UnknownNameError, choices
from tinker_rl.lineup import renderer_name
from tinker_rl.recipes.command import run_command
from tinker_rl.recipes.sampler import SamplerName, choose_sampler, open_service
from tinker_rl.renderers import get_renderer


@chz.chz
class Config:
    """Options of the command line, each as `name=value`."""

    model_name: str = chz.field(default="tiny", doc="Base model: lineup, hub name or folder.")
    dataset: str = chz.field(default="arithmetic", doc="arithmetic or gsm8k.")
    data_path: str | None = chz.field(default=None, doc="Folder or file of gsm8k.")
    sampler: SamplerName = chz.field(
        default="auto", doc="vllm or embedded; auto: vLLM where installed, not for tiny."
    )
    batch_size: int = chz.field(default=16, doc="Problems a step.")
    group_size: int = chz.field(default=16, doc="Answers to each problem.")
    learning_rate: float = chz.field(default=1e-3, doc="4e-5 suits models of a few billion.")
    lora_rank: int = chz.field(default=32, doc="Rank of the adapter.")
    max_tokens: int = chz.field(default=32, doc="Longest answer; gsm8k wants 256 or more.")
    max_steps: int = chz.field(default=20, doc="Optimiser steps.")
    seed: int = chz.field(default=0, doc="Seed of the problems, the adapter and the answers.")
    log_path: str = chz.field(default="runs/rl_loop", doc="Where metrics.jsonl goes.")


def problems_of(config: Config) -> list[tuple[str, str]]:
    """Enough (question, right answer) pairs for the whole run, in a seeded order."""
    rng = random.Random(config.seed)
    count = config.batch_size * config.max_steps
    if config.dataset == "arithmetic":
        drawn = [sample_problem(rng, "train") for _ in range(count)]
        return [(format_question(p.question), str(p.answer)) for p in drawn]
    if config.dataset == "gsm8k":
        loaded = load_gsm8k("train", config.data_path)
        print(f"gsm8k: {len(loaded.rows)} rows from {loaded.source}")
        rows = rng.sample(loaded.rows, min(count, len(loaded.rows)))
        return [(row.question + QUESTION_SUFFIX, row.reference) for row in rows]
    raise UnknownNameError(
        f"dataset: expected a known one; got {config.dataset!r}."
        f"{choices(config.dataset, ['arithmetic', 'gsm8k'])}"
    )


def reward(answer: str, reference: str) -> float:
    """1 for the right number in \\boxed{}, 0 for a wrong one, -0.1 without a box."""
    boxed = extract_boxed(answer)
    if boxed is None:
        return -0.1
    return float(grade_answer(boxed, reference))


def main(config: Config) -> None:
    """Run the recipe."""
    problems = problems_of(config)
    log_path = Path(config.log_path).expanduser()
    log_path.mkdir(parents=True, exist_ok=True)

    sampler, why = choose_sampler(config.sampler, config.model_name)
    print(f"sampler {sampler}: {why}")
    service_client = open_service(sampler)
    training_client = service_client.create_lora_training_client(
        config.model_name, rank=config.lora_rank, seed=config.seed
    )
    tokenizer = training_client.get_tokenizer()
    renderer = get_renderer(renderer_name(config.model_name), tokenizer)

    for step in range(config.max_steps):
        started = time.perf_counter()
        batch = problems[step * config.batch_size : (step + 1) * config.batch_size]

        # 1. Sample under the present weights. All requests are queued before any is waited for.
        #    Publishing proves that the sampler has these weights, or raises a WeightSyncError.
        if step == 0:
            print("starting the sampler ...", flush=True)
        sampling_client = training_client.save_weights_and_get_sampling_client()
        prompts = [
            renderer.build_generation_prompt([{"role": "user", "content": question}])
            for question, _ in batch
        ]
        futures = [
            sampling_client.sample(
                prompt,
                num_samples=config.group_size,
                sampling_params=SamplingParams(
                    max_tokens=config.max_tokens,
                    stop=renderer.get_stop_sequences(),
                    seed=(config.seed << 32) + step * config.batch_size + index,
                ),
            )
            for index, prompt in enumerate(prompts)
        ]

        # 2. Grade, and turn each answer into a training datum.
        data: list[Datum] = []
        rewards: list[float] = []
        for prompt, future, (_, reference) in zip(prompts, futures, batch, strict=True):
            sequences = future.result().sequences
            texts = [renderer.parse_response(s.tokens)[0]["content"] for s in sequences]
            group_rewards = np.array([reward(str(text), reference) for text in texts])
            rewards += group_rewards.tolist()
            advantages = group_rewards - group_rewards.mean()
            if not advantages.any():
                continue  # all answers were equally good: nothing to learn
            prompt_tokens = prompt.to_ints()
            before = len(prompt_tokens) - 1  # positions that predict the prompt itself
            for sequence, advantage in zip(sequences, advantages, strict=True):
                tokens = prompt_tokens + sequence.tokens
                assert sequence.logprobs_np is not None
                count = len(sequence.tokens)
                data.append(
                    Datum(
                        model_input=ModelInput.from_ints(tokens[:-1]),
                        loss_fn_inputs={
                            "target_tokens": tokens[1:],
                            "logprobs": np.pad(sequence.logprobs_np, (before, 0)),
                            "advantages": np.pad(np.full(count, advantage), (before, 0)),
                        },
                    )
                )

        # 3. One step. Both requests are queued at once, and run in one clock cycle.
        metrics = {"step": step, "reward": float(np.mean(rewards)), "datums": len(data)}
        metrics["accuracy"] = float(np.mean(np.array(rewards) == 1.0))
        sync = sampling_client.weight_sync
        if sync is not None and sync.max_abs_logprob_diff is not None:
            metrics["sync/max_abs_logprob_diff"] = sync.max_abs_logprob_diff
        if data:
            fwdbwd = training_client.forward_backward(data, "importance_sampling")
            optim = training_client.optim_step(AdamParams(learning_rate=config.learning_rate))
            metrics["loss"] = fwdbwd.result().metrics["loss:sum"]
            metrics["grad_norm"] = (optim.result().metrics or {})["grad_norm:mean"]
        metrics["seconds"] = time.perf_counter() - started
        with (log_path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(metrics) + "\n")
        print(
            f"step {step}: accuracy {metrics['accuracy']:.3f}, reward {metrics['reward']:.3f}, "
            f"{metrics['seconds']:.1f} s"
        )

    path = training_client.save_state("final", overwrite=True).result().path
    print(f"saved {path}; metrics in {log_path / 'metrics.jsonl'}")


if __name__ == "__main__":
    run_command(main, Config)
