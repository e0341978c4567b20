r"""Reinforcement learning on problems with a checkable answer: the place to start.

    python -m tinker_rl.recipes.rl_basic
    python -m tinker_rl.recipes.rl_basic dataset=gsm8k data_path=../shared/data/gsm8k max_steps=3
    python -m tinker_rl.recipes.rl_basic model_name=meta-llama/Llama-3.1-8B dataset=gsm8k
    python -m tinker_rl.recipes.rl_basic model_name=tiny sampler=vllm max_steps=2
    python -m tinker_rl.recipes.rl_basic max_steps_off_policy=2 num_minibatches=4
    python -m tinker_rl.recipes.rl_basic max_steps_off_policy=2 lag=fixed

Stopped by Ctrl-C or killed, the same command goes on where it was.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import chz
import msgspec
from rich.console import Console

from tinker_rl.envs import get_dataset_builder
from tinker_rl.errors import UnknownNameError, choices
from tinker_rl.lineup import model_path, renderer_name
from tinker_rl.losses import BUILT_IN, registered_losses
from tinker_rl.policies import Refresh
from tinker_rl.recipes.command import INTERRUPTED, run_command
from tinker_rl.recipes.sampler import SamplerName, choose_sampler, open_service
from tinker_rl.rl import (
    AsyncConfig,
    Lag,
    LogdirBehavior,
    OnWeightSyncError,
    RunSummary,
    Straggler,
    StreamMinibatchConfig,
)
from tinker_rl.rl import Config as TrainConfig
from tinker_rl.rl import main as train
from tinker_rl.rl.corrections import TRUNCATED_IMPORTANCE_SAMPLING

LARGE_GPU_GB = 40
"""Memory from which a GPU holds Llama-3.1-8B in bfloat16 with room to train and sample."""


@chz.chz
class Config:
    """Options of the command line, each as `name=value`; defaults fit model and dataset."""

    model_name: str | None = chz.field(default=None, doc="Base model: lineup, hub name or folder.")
    dataset: str | None = chz.field(default=None, doc="arithmetic or gsm8k.")
    data_path: str | None = chz.field(default=None, doc="Folder or file of gsm8k.")
    renderer_name: str | None = chz.field(default=None, doc="Chat format.")
    sampler: SamplerName = chz.field(
        default="auto", doc="vllm or embedded; auto: vLLM where installed, not for tiny."
    )
    batch_size: int | None = chz.field(default=None, doc="Problems a step.")
    group_size: int | None = chz.field(default=None, doc="Answers to each problem.")
    learning_rate: float | None = chz.field(default=None, doc="Of Adam.")
    lora_rank: int = chz.field(default=32, doc="Rank of the adapter.")
    max_tokens: int | None = chz.field(default=None, doc="Longest answer, in tokens.")
    max_steps: int | None = chz.field(default=None, doc="Optimiser steps.")
    num_substeps: int = chz.field(default=1, doc="Optimiser steps that a batch is split into.")
    loss_fn: str | None = chz.field(
        default=None, doc="The learner's loss; importance_sampling, or ppo off-policy."
    )
    kl_penalty_coef: float = chz.field(default=0.0, doc="Weight of the KL to the base model.")
    max_steps_off_policy: int = chz.field(
        default=0, doc="How many steps sampling may run ahead of training; 0: on-policy."
    )
    lag: Lag = chz.field(
        default="newest", doc="newest weights act, or exactly those so many steps old: fixed."
    )
    refresh: Refresh = chz.field(
        default="never", doc="Whether running episodes take up new weights: never|turn|publish."
    )
    straggler: Straggler = chz.field(
        default="wait", doc="wait for long episodes, or mask those that come too late."
    )
    num_minibatches: int | None = chz.field(
        default=None, doc="Parts of a substep that train as soon as they are complete."
    )
    n_test: int = chz.field(default=200, doc="Held-out problems; 0: no evaluation.")
    eval_every: int = chz.field(default=20, doc="Steps between evaluations.")
    save_every: int = chz.field(default=20, doc="Steps between checkpoints.")
    on_weight_sync_error: OnWeightSyncError = chz.field(
        default="stop", doc="When the sampler has other weights than the learner: stop|continue."
    )
    seed: int = chz.field(default=0, doc="Of the problems, the adapter and the sampler.")
    log_path: str | None = chz.field(default=None, doc="Folder of the run; runs/rl_basic/...")
    loggers: list[str] = chz.field(
        default_factory=list, doc="Beside metrics.jsonl: tensorboard,wandb,trackio."
    )
    behavior_if_log_dir_exists: LogdirBehavior = chz.field(
        default="ask", doc="When log_path holds a run of other options: resume|delete|ask|raise."
    )


class Defaults(msgspec.Struct, frozen=True):
    """What suits a task on a machine."""

    batch_size: int
    group_size: int
    learning_rate: float
    max_tokens: int
    max_steps: int | None


LARGE = Defaults(128, 16, 4e-5, 256, None)
"""For models of a few billion parameters, as in Tinker's own recipe."""
TINY = {
    "arithmetic": Defaults(32, 16, 1e-3, 16, 40),
    "gsm8k": Defaults(16, 8, 1e-3, 128, 20),
}
"""For the shipped model, on a laptop."""


def choose(config: Config) -> tuple[str, str, str]:
    """(model, dataset, why) for what the command line leaves open."""
    if config.model_name is not None:
        dataset = config.dataset or ("arithmetic" if config.model_name == "tiny" else "gsm8k")
        return config.model_name, dataset, "as asked"
    gpu, memory_gb = _gpu()
    if memory_gb >= LARGE_GPU_GB:
        why = f"this machine has a large GPU ({gpu}, {memory_gb:.0f} GB)"
        return "meta-llama/Llama-3.1-8B", config.dataset or "gsm8k", why
    found = f"its GPU ({gpu}) has only {memory_gb:.0f} GB" if gpu else "this machine has no GPU"
    return "tiny", config.dataset or "arithmetic", f"{found}, so the shipped model is used"


def _gpu() -> tuple[str, float]:
    import torch

    if not torch.cuda.is_available():
        return "", 0.0
    properties: Any = torch.cuda.get_device_properties(0)
    return properties.name, properties.total_memory / 1e9


def train_config(config: Config, model: str, dataset: str, console: Console) -> TrainConfig:
    """The options of `rl.train` that the recipe's options stand for."""
    defaults = TINY.get(dataset, LARGE) if model == "tiny" else LARGE
    model_path(model)  # an unknown model is an error now, not after the data is loaded
    _check_loss(config.loss_fn)
    renderer = config.renderer_name or renderer_name(model)
    slug = f"{Path(model).name}_{dataset}_seed{config.seed}"
    max_steps = defaults.max_steps if config.max_steps is None else config.max_steps
    batch_size = _or(config.batch_size, defaults.batch_size)
    settings: dict[str, Any] = {"data_path": config.data_path, "n_test": config.n_test}
    if dataset == "arithmetic":
        settings["n_batches"] = 1000  # not max_steps, so that a longer run is still the same run
    if dataset == "gsm8k":
        settings["log"] = console.print
    return TrainConfig(
        recipe_name="rl_basic",
        model_name=model,
        renderer_name=renderer,
        dataset_builder=get_dataset_builder(
            dataset,
            batch_size=batch_size,
            group_size=_or(config.group_size, defaults.group_size),
            model_name_for_tokenizer=model,
            renderer_name=renderer,
            seed=config.seed,
            **settings,
        ),
        learning_rate=_or(config.learning_rate, defaults.learning_rate),
        lora_rank=config.lora_rank,
        max_tokens=_or(config.max_tokens, defaults.max_tokens),
        max_steps=max_steps,
        num_substeps=config.num_substeps,
        loss_fn=config.loss_fn,
        kl_penalty_coef=config.kl_penalty_coef,
        async_config=_async_config(config, batch_size),
        stream_minibatch_config=_stream_config(config, batch_size),
        eval_every=config.eval_every if config.n_test else 0,
        save_every=config.save_every,
        on_weight_sync_error=config.on_weight_sync_error,
        seed=config.seed,
        log_path=config.log_path or f"runs/rl_basic/{slug}",
        loggers=list(config.loggers),
        behavior_if_log_dir_exists=config.behavior_if_log_dir_exists,
    )


def _check_loss(name: str | None) -> None:
    """A name that no loss has is an error now; the engine, loaded later, has the last word."""
    known = {*BUILT_IN, *registered_losses(), TRUNCATED_IMPORTANCE_SAMPLING}
    if name is not None and name not in known:
        raise UnknownNameError(
            f"loss_fn: expected a known loss; got {name!r}.{choices(name, known)}"
        )


def _async_config(config: Config, batch_size: int) -> AsyncConfig | None:
    """None where every option is that of an on-policy run."""
    on_policy = AsyncConfig(max_steps_off_policy=0, groups_per_batch=batch_size)
    asked = AsyncConfig(
        max_steps_off_policy=config.max_steps_off_policy,
        groups_per_batch=batch_size,
        lag=config.lag,
        refresh=config.refresh,
        straggler=config.straggler,
    )
    return None if asked == on_policy else asked


def _stream_config(config: Config, batch_size: int) -> StreamMinibatchConfig | None:
    if config.num_minibatches is None:
        return None
    return StreamMinibatchConfig(
        groups_per_batch=batch_size, num_minibatches=config.num_minibatches
    )


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


REPRODUCIBLE = {
    "embedded": "lag=fixed: the same command gives the same weights, bit for bit; for it, samples "
    "are drawn one request at a time",
    "vllm": "lag=fixed: which weights sample what is reproducible; what vLLM samples is so up to "
    "rounding only (with sampler=embedded, bit for bit)",
}


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What `summary.json` holds."""

    model_name: str
    dataset: str
    sampler: str
    """Of this start of the run."""
    steps: int
    seconds: float
    """Of this start of the run."""
    accuracy_before: float | None
    """Share of held-out problems answered right at temperature 1, before training."""
    accuracy_after: float | None
    state_path: str | None
    sampler_path: str | None


def summarise(run: RunSummary, model: str, dataset: str, sampler: str, seconds: float) -> Summary:
    """The figures of a run that ended."""
    checkpoint = run.checkpoint
    return Summary(
        model_name=model,
        dataset=dataset,
        sampler=sampler,
        steps=run.num_steps_done,
        seconds=seconds,
        accuracy_before=run.first_evaluation.get("test/env/all/correct"),
        accuracy_after=run.last_evaluation.get("test/env/all/correct"),
        state_path=checkpoint.state_path if checkpoint else None,
        sampler_path=checkpoint.sampler_path if checkpoint else None,
    )


def tell(summary: Summary, options: TrainConfig, console: Console) -> None:
    """Say how the run ended and what to do with it."""
    console.print()
    if summary.accuracy_before is not None and summary.accuracy_after is not None:
        console.print(
            f"held-out accuracy: [bold]{summary.accuracy_before:.3f}[/] before, "
            f"[bold]{summary.accuracy_after:.3f}[/] after {summary.steps} steps"
        )
    console.print(f"the run lies in {options.log_path}")
    if summary.sampler_path is not None:
        console.print("sample from it:")
        console.print(
            SAMPLE.format(path=summary.sampler_path, renderer=options.renderer_name), markup=False
        )
    console.print(
        "a bigger model:\n"
        "    python -m tinker_rl.recipes.rl_basic model_name=Qwen/Qwen3-4B-Instruct-2507 "
        "dataset=gsm8k"
    )


SAMPLE = """\
    from tinker_rl import SamplingParams, ServiceClient
    from tinker_rl.renderers import get_renderer

    client = ServiceClient().create_sampling_client(model_path="{path}")
    tokenizer = client.get_tokenizer()
    renderer = get_renderer("{renderer}", tokenizer)
    question = "17+25=? Answer in \\\\boxed{{}}."
    prompt = renderer.build_generation_prompt([{{"role": "user", "content": question}}])
    params = SamplingParams(max_tokens=64, stop=renderer.get_stop_sequences())
    print(tokenizer.decode(client.sample(prompt, 1, params).result().sequences[0].tokens))"""


async def train_with(options: TrainConfig, sampler: SamplerName) -> RunSummary:
    """Run, or go on, with an engine of this process that has the sampler."""
    is_deterministic = options.schedule.lag == "fixed"
    service = await anyio.to_thread.run_sync(open_service, sampler, is_deterministic)
    try:
        return await train(options, service)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(service.close)


async def main(config: Config) -> None:
    """Run the recipe."""
    console = Console(highlight=False, soft_wrap=True)
    model, dataset, why = choose(config)
    console.print(f"model [bold]{model}[/] on [bold]{dataset}[/]: {why}")
    if (model, dataset) == ("tiny", "gsm8k"):
        console.print("tiny is too small for word problems: the run works, but will not learn them")
    options = train_config(config, model, dataset, console)  # before the heavy engine is imported
    sampler, why = choose_sampler(config.sampler, model)
    console.print(f"sampler [bold]{sampler}[/]: {why}")
    if config.lag == "fixed":
        console.print(REPRODUCIBLE[sampler])
    options = chz.replace(options, sampler_name=sampler)
    started = time.perf_counter()
    run = await train_with(options, sampler)
    if run.interrupted:
        sys.exit(INTERRUPTED)  # the run has said how to go on
    summary = summarise(run, model, dataset, sampler, time.perf_counter() - started)
    (options.log_dir / "summary.json").write_bytes(msgspec.json.encode(summary))
    tell(summary, options, console)


if __name__ == "__main__":
    run_command(main, Config)
