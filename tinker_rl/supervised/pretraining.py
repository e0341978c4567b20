"""Full-parameter supervised training of a small causal language model, from random weights.

For base models of our own, such as `tiny`. To adapt a model that exists, train a LoRA adapter
through `TrainingClient` instead.
"""

import math
import time
from collections.abc import Iterator

import msgspec
import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

IGNORED = -100
"""Target of a position that does not train."""


class PretrainingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long and how fast to train."""

    num_steps: int = 2000
    """Optimiser steps."""
    rows_per_batch: int = 16
    """Packed rows in an optimiser step."""
    row_length: int = 128
    """Tokens in a packed row; no example may be longer."""
    learning_rate: float = 3e-3
    """Peak of the schedule."""
    warmup_steps: int = 50
    """Steps over which the learning rate rises from 0 to its peak."""
    final_learning_rate_fraction: float = 0.01
    """Where the cosine ends, as a fraction of the peak."""
    weight_decay: float = 0.01
    """Decoupled weight decay, on matrices only."""
    grad_clip_norm: float = 1.0
    """Greatest global norm of a gradient."""

    def __post_init__(self) -> None:
        for name in ("num_steps", "rows_per_batch", "row_length", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"PretrainingConfig.{name}: expected more than 0; got {getattr(self, name)}. "
                    f"Leave it out to take the default."
                )
        if not 0 <= self.warmup_steps <= self.num_steps:
            raise ValueError(
                f"PretrainingConfig.warmup_steps: expected 0 to num_steps={self.num_steps}; "
                f"got {self.warmup_steps}. Lower it along with num_steps."
            )


class PretrainingExample(msgspec.Struct, frozen=True):
    """A text in tokens, and which of them the model learns to say."""

    tokens: tuple[int, ...]
    """Token ids, in order."""
    loss_mask: tuple[bool, ...]
    """True on tokens that train."""

    def __post_init__(self) -> None:
        if len(self.loss_mask) != len(self.tokens):
            raise ValueError(
                f"PretrainingExample.loss_mask: expected {len(self.tokens)} values, one per "
                f"token; got {len(self.loss_mask)}. Build both in the same loop."
            )
        if not any(self.loss_mask[1:]):
            raise ValueError(
                f"PretrainingExample.loss_mask: expected a token that trains after the first; got "
                f"none in {len(self.tokens)}. Leave such an example out."
            )


class PackedBatch(msgspec.Struct, frozen=True, eq=False):
    """Rows filled with whole examples; a position number of 0 begins a new example."""

    tokens_BT: Tensor
    """Token ids, shape [B, T], int64."""
    targets_BT: Tensor
    """The next token where it trains, else `IGNORED`. Shape [B, T], int64."""
    positions_BT: Tensor
    """Place of a token in its own example, shape [B, T], int64."""


class PretrainingResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a training run cost and how its loss fell."""

    losses: tuple[float, ...]
    """Mean cross-entropy of each step, in nats per trained token."""
    num_tokens: int
    """Tokens that went through the model, padding included."""
    seconds: float
    """Wall-clock time of the loop."""


def packed_batches(
    examples: Iterator[PretrainingExample], config: PretrainingConfig, pad_token: int
) -> Iterator[PackedBatch]:
    """Fill rows with whole examples, in order, and pad what is left of each row.

    Raises:
        ValueError: if an example is longer than a row.
    """
    rows: list[list[PretrainingExample]] = [[]]
    room = config.row_length
    for example in examples:
        length = len(example.tokens)
        if length > config.row_length:
            raise ValueError(
                f"packed_batches: expected examples of at most row_length={config.row_length} "
                f"tokens; got {length}. Cut the example or raise row_length."
            )
        if length > room:
            if len(rows) == config.rows_per_batch:
                yield _packed_batch(rows, config.row_length, pad_token)
                rows = []
            rows.append([])
            room = config.row_length
        rows[-1].append(example)
        room -= length


def learning_rate_at(step: int, config: PretrainingConfig) -> float:
    """Linear warm-up to the peak, then half a cosine down to its final fraction."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.num_steps - config.warmup_steps)
    floor = config.final_learning_rate_fraction
    return config.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def mean_cross_entropy(model: PreTrainedModel, batch: PackedBatch) -> Tensor:
    """Cross-entropy of the trained tokens, each example seeing only itself.

    Returns:
        Scalar, float32, in nats per trained token.
    """
    # Without an attention mask transformers finds the examples of a row by their position numbers.
    hidden_BTD = model.base_model(
        input_ids=batch.tokens_BT, position_ids=batch.positions_BT, use_cache=False
    ).last_hidden_state
    trains_BT = batch.targets_BT != IGNORED
    logits_NV = model.get_submodule("lm_head")(hidden_BTD[trains_BT])
    return functional.cross_entropy(logits_NV.float(), batch.targets_BT[trains_BT])


def pretrain(
    model: PreTrainedModel,
    examples: Iterator[PretrainingExample],
    config: PretrainingConfig,
    *,
    pad_token: int,
) -> PretrainingResult:
    """Train every parameter of `model` in place; prints progress and the loss.

    The same weights, examples, configuration and number of threads give the same bits.

    Raises:
        ValueError: if the examples run out before the last step, or one does not fit a row.
    """
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(0.9, 0.95),
    )
    batches = packed_batches(examples, config, pad_token)
    losses: list[float] = []
    model.train()
    started = time.perf_counter()
    with _progress() as progress:
        task = progress.add_task("pretraining", total=config.num_steps, loss="", speed="")
        for step in range(config.num_steps):
            batch = next(batches, None)
            if batch is None:
                raise ValueError(
                    f"pretrain: expected examples for num_steps={config.num_steps} steps; "
                    f"got enough for {step}. Repeat the examples or lower num_steps."
                )
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, config)
            loss = mean_cross_entropy(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            tokens_per_second = (step + 1) * batch.tokens_BT.numel()
            tokens_per_second /= time.perf_counter() - started
            progress.update(
                task,
                advance=1,
                loss=f"loss {losses[-1]:.3f}",
                speed=f"{tokens_per_second:,.0f} tokens/s",
            )
            if (step + 1) % max(1, config.num_steps // 20) == 0:
                recent = losses[-max(1, config.num_steps // 20) :]
                progress.console.print(
                    f"step {step + 1}/{config.num_steps}  loss {sum(recent) / len(recent):.4f}  "
                    f"{tokens_per_second:,.0f} tokens/s"
                )
    model.eval()
    return PretrainingResult(
        losses=tuple(losses),
        num_tokens=config.num_steps * config.rows_per_batch * config.row_length,
        seconds=time.perf_counter() - started,
    )


def _packed_batch(
    rows: list[list[PretrainingExample]], row_length: int, pad_token: int
) -> PackedBatch:
    tokens_BT = torch.full((len(rows), row_length), pad_token)
    targets_BT = torch.full((len(rows), row_length), IGNORED)
    positions_BT = torch.zeros((len(rows), row_length), dtype=torch.int64)
    for row, examples in enumerate(rows):
        start = 0
        for example in examples:
            end = start + len(example.tokens)
            tokens_BT[row, start:end] = torch.tensor(example.tokens)
            positions_BT[row, start:end] = torch.arange(end - start)
            for place in range(1, end - start):
                if example.loss_mask[place]:
                    targets_BT[row, start + place - 1] = example.tokens[place]
            start = end
        positions_BT[row, start:] = torch.arange(row_length - start)
    return PackedBatch(tokens_BT, targets_BT, positions_BT)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[loss]}  {task.fields[speed]}"),
        TimeRemainingColumn(),
    )
