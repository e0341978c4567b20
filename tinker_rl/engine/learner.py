"""Trains the adapters of one base model: forward, backward, AdamW.

Synchronous code: whoever owns a `Learner` calls it from one thread. Long calls are generators that
stop after each micro-batch, so that others get the device in between.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import numpy as np
import peft
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tinker_rl.engine import lora
from tinker_rl.engine.batching import plan_microbatches
from tinker_rl.engine.losses import get_loss, loss_config
from tinker_rl.engine.scoring import LanguageModel, token_logprobs
from tinker_rl.engine.validation import check_data
from tinker_rl.errors import RequestError, UnsupportedError
from tinker_rl.losses import CustomLoss
from tinker_rl.types import (
    AdamParams,
    Datum,
    ForwardBackwardOutput,
    LoraConfig,
    OptimStepResponse,
    TensorData,
)

__all__ = ["Adapter", "Learner", "Steps"]

Steps: TypeAlias = Generator[None, None, ForwardBackwardOutput]
"""Work that stops after each micro-batch and gives its result at the end."""


@dataclass
class Adapter:
    """One training model: its parameters, gradients waiting for a step, and optimiser."""

    name: str
    config: LoraConfig
    peft_config: peft.LoraConfig
    params: dict[str, nn.Parameter]
    optimizer: torch.optim.AdamW
    gradients: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Sums over the requests since the last step; empty when there was none."""
    steps: int = 0
    """Optimiser steps taken."""


@dataclass
class _MicroBatch:
    input_ids: Tensor
    """Token ids, int64, shape [B, T], padded on the right with 0."""
    flat_N: Tensor
    """Index of each real token in the flattened [B * T]."""
    inputs: dict[str, Tensor]
    """Loss inputs, shape [N]."""
    indices: list[int]
    lengths: list[int]


class Learner:
    """All adapters over one frozen base model. Gradients are exact sums, never averaged."""

    def __init__(self, model: PreTrainedModel, base_model: str, context: int) -> None:
        """
        Raises:
            UnsupportedError: if the model's logits are not of the plain kind.
        """
        self.base_model = base_model
        self.context = context
        self.device = model.device
        self.token_budget = 16384 if self.device.type == "cuda" else 4096
        self._language_model = LanguageModel(model)
        reason = self._language_model.check_supported()
        if reason:
            raise UnsupportedError(
                f"base_model {base_model!r}: expected logits that are the unembedding of the "
                f"hidden states; got {type(model).__name__}: {reason}. Use another model."
            )
        self._model: PreTrainedModel | peft.PeftModel = model
        self._layers = lora.LinearLayers.of(model)
        self._adapters: dict[str, Adapter] = {}
        self._active: str | None = None

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self._language_model.vocab_size

    # ------------------------------------------------------------------------------- adapters

    def create(self, name: str, config: LoraConfig) -> Adapter:
        """Add a freshly initialised adapter; without a seed one is drawn and kept in its config."""
        seed = config.seed if config.seed is not None else secrets.randbits(31)
        config = LoraConfig(
            rank=config.rank,
            seed=seed,
            train_mlp=config.train_mlp,
            train_attn=config.train_attn,
            train_unembed=config.train_unembed,
        )
        settings = lora.peft_config(self._layers, config)
        self._model = lora.add_adapter(self._model, name, settings, seed % 2**63)
        params = lora.adapter_parameters(self._model, name)
        optimizer = torch.optim.AdamW(list(params.values()), fused=True)
        self._adapters[name] = Adapter(name, config, settings, params, optimizer)
        self._active = None
        return self._adapters[name]

    def remove(self, name: str) -> None:
        """Forget an adapter and free its memory."""
        del self._adapters[name]
        lora.remove_adapter(cast(peft.PeftModel, self._model), name)
        self._active = None

    def adapter(self, name: str) -> Adapter:
        """The adapter of that name."""
        return self._adapters[name]

    def weights(self, name: str) -> dict[str, Tensor]:
        """A copy of the adapter's tensors, named as in a peft adapter file."""
        state = lora.adapter_state(cast(peft.PeftModel, self._model), name)
        return {key: value.detach().clone().contiguous() for key, value in state.items()}

    def load_weights(self, name: str, state: dict[str, Tensor]) -> None:
        """Overwrite the adapter's tensors; gradients waiting for a step are dropped."""
        lora.load_adapter_state(cast(peft.PeftModel, self._model), name, state)
        self._adapters[name].gradients.clear()

    def _activate(self, name: str) -> None:
        if self._active != name:
            cast(peft.PeftModel, self._model).set_adapter(name)
            self._active = name

    # ----------------------------------------------------------------------- forward, backward

    def forward_backward(
        self,
        name: str,
        data: Sequence[Datum],
        loss_fn: str,
        config: dict[str, float | str] | None = None,
        *,
        forward_only: bool = False,
        custom: CustomLoss | None = None,
    ) -> Steps:
        """Loss of `data`, and its gradient added to the adapter's: all of it, or nothing.

        Returns:
            Steps whose result has `logprobs`, float32 [N], for every datum.
        Raises:
            RequestError: for data or options that the loss cannot be computed on.
        """
        started = time.perf_counter()
        adapter = self._adapters[name]
        required: tuple[str, ...] = ()
        optional: tuple[str, ...] = ()
        options: dict[str, float] = {}
        if custom is None:
            spec = get_loss(loss_fn)
            options = loss_config(loss_fn, config)
            required = tuple(key for key in spec.inputs if key not in spec.optional)
            optional = spec.optional
        check_data(
            data,
            required,
            optional,
            vocab_size=self.vocab_size,
            context=self.context,
            allow_other_inputs=custom is not None,
        )
        lengths = [datum.model_input.length for datum in data]
        self._activate(name)
        _clear(adapter)
        logprobs: list[Tensor | None] = [None] * len(data)
        loss_sum = 0.0
        metrics: dict[str, float] = {}
        try:
            for indices in plan_microbatches(lengths, self.token_budget):
                batch = self._microbatch(data, indices, required, optional)
                with torch.set_grad_enabled(not forward_only):
                    logprobs_N = self._logprobs(batch)
                    if custom is None:
                        loss = get_loss(loss_fn).fn(logprobs_N, batch.inputs, options).sum()
                        loss_sum += self._backward(loss, forward_only)
                        logprobs_N = logprobs_N.detach()
                parts = logprobs_N.split(batch.lengths)
                for index, part in zip(batch.indices, parts, strict=True):
                    logprobs[index] = part
                yield
            done = [cast(Tensor, part) for part in logprobs]
            if custom is not None:
                loss, metrics = _custom_loss(custom, data, done)
                loss_sum = self._backward(loss, forward_only)
            if not forward_only:
                _commit(adapter)
        finally:
            _clear(adapter)
        tokens = sum(lengths)
        return ForwardBackwardOutput(
            loss_fn_outputs=[{"logprobs": TensorData.from_torch(part)} for part in done],
            metrics={
                "loss:sum": loss_sum,
                "tokens:sum": float(tokens),
                "tokens_per_second:mean": tokens / (time.perf_counter() - started),
                **{key if ":" in key else f"{key}:mean": value for key, value in metrics.items()},
            },
        )

    def _microbatch(
        self,
        data: Sequence[Datum],
        indices: list[int],
        required: Sequence[str],
        optional: Sequence[str],
    ) -> _MicroBatch:
        lengths = [data[index].model_input.length for index in indices]
        width = max(lengths)
        ids = np.zeros((len(indices), width), np.int64)
        for row, index in enumerate(indices):
            ids[row, : lengths[row]] = data[index].model_input.to_ints()
        flat = np.concatenate([np.arange(n) + row * width for row, n in enumerate(lengths)])
        inputs: dict[str, Tensor] = {}
        for key in ("target_tokens", *required, *optional):
            columns = [
                data[index].loss_fn_inputs[key].array
                if key in data[index].loss_fn_inputs
                else np.ones(length, np.float32)
                for index, length in zip(indices, lengths, strict=True)
            ]
            inputs[key] = torch.from_numpy(np.concatenate(columns)).to(self.device)
        return _MicroBatch(
            torch.from_numpy(ids).to(self.device),
            torch.from_numpy(flat).to(self.device),
            inputs,
            indices,
            lengths,
        )

    def _logprobs(self, batch: _MicroBatch) -> Tensor:
        # Padding stands on the right of causal attention: it changes no real token, so no mask.
        hidden_BTH = self._language_model.hidden_states(batch.input_ids, use_cache=False)
        hidden_NH = hidden_BTH.flatten(0, 1)[batch.flat_N]
        return token_logprobs(
            hidden_NH, batch.inputs["target_tokens"], self._language_model.head, self.vocab_size
        )

    def _backward(self, loss: Tensor, forward_only: bool) -> float:
        value = float(loss.detach())
        if not np.isfinite(value):
            raise RequestError(
                f"forward_backward: expected a finite loss; got {value}. Check the logprobs and "
                "advantages of this request: nothing of it was applied."
            )
        if not forward_only:
            loss.backward()
        return value

    # ------------------------------------------------------------------------------- optimiser

    def optim_step(self, name: str, params: AdamParams) -> OptimStepResponse:
        """One AdamW step on the sum of the gradients since the last; they are cleared.

        Raises:
            RequestError: if there are none, if they are not finite, or on an option out of range.
        """
        _check_adam(params)
        adapter = self._adapters[name]
        if not adapter.gradients:
            raise RequestError(
                "optim_step: expected gradients of a forward_backward since the last step; got "
                "none. Call forward_backward first, and check that it succeeded."
            )
        for key, parameter in adapter.params.items():
            parameter.grad = adapter.gradients.get(key)
        adapter.gradients = {}
        try:
            limit = params.grad_clip_norm if params.grad_clip_norm > 0 else float("inf")
            norm = float(torch.nn.utils.clip_grad_norm_(adapter.params.values(), limit))
            if not np.isfinite(norm):
                raise RequestError(
                    f"optim_step: expected a finite gradient norm; got {norm}. The step was not "
                    "taken and the gradients were dropped; lower the learning rate or set "
                    "grad_clip_norm."
                )
            for group in adapter.optimizer.param_groups:
                group.update(
                    lr=params.learning_rate,
                    betas=(params.beta1, params.beta2),
                    eps=params.eps,
                    weight_decay=params.weight_decay,
                )
            adapter.optimizer.step()
        finally:
            _clear(adapter)
        adapter.steps += 1
        return OptimStepResponse(
            metrics={"grad_norm:mean": norm, "learning_rate:mean": params.learning_rate}
        )


def _clear(adapter: Adapter) -> None:
    for parameter in adapter.params.values():
        parameter.grad = None


def _commit(adapter: Adapter) -> None:
    """Add the gradients of one whole request to those that wait for a step.

    Raises:
        RequestError: if they are not finite; none of them is added.
    """
    own = [p.grad for p in adapter.params.values() if p.grad is not None]
    norm = float(torch.nn.utils.get_total_norm(own))
    if not np.isfinite(norm):
        raise RequestError(
            f"forward_backward: expected a finite gradient; got one of norm {norm}. Check the "
            "logprobs and advantages of this request: nothing of it was applied."
        )
    for key, parameter in adapter.params.items():
        if parameter.grad is None:
            continue
        if key in adapter.gradients:
            adapter.gradients[key] += parameter.grad
        else:
            adapter.gradients[key] = parameter.grad


def _custom_loss(
    fn: CustomLoss, data: Sequence[Datum], logprobs: list[Tensor]
) -> tuple[Tensor, dict[str, float]]:
    try:
        loss, metrics = fn(list(data), logprobs)
        values = {key: float(value) for key, value in metrics.items()}
    except (Exception, SystemExit) as error:
        raise RequestError(
            f"forward_backward_custom: the loss function raised {type(error).__name__}: {error}, "
            "or did not return (loss, metrics). Nothing of this request was applied."
        ) from error
    if not isinstance(loss, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RequestError(
            f"forward_backward_custom: expected a loss that is a tensor; got "
            f"{type(loss).__name__}. Compute it from the logprobs that the function is given."
        )
    if loss.numel() != 1:
        raise RequestError(
            f"forward_backward_custom: expected a scalar loss; got shape {list(loss.shape)}. "
            "Sum or average it."
        )
    if (
        torch.is_grad_enabled()
        and not loss.requires_grad
        and any(x.requires_grad for x in logprobs)
    ):
        raise RequestError(
            "forward_backward_custom: expected a loss that depends on the logprobs; got one "
            "without a graph. Do not detach them or turn them into numbers."
        )
    return loss.reshape(()), values


def _check_adam(params: AdamParams) -> None:
    rules = (
        ("learning_rate", params.learning_rate >= 0, "0 or more"),
        ("beta1", 0 <= params.beta1 < 1, "in [0, 1)"),
        ("beta2", 0 <= params.beta2 < 1, "in [0, 1)"),
        ("eps", params.eps >= 0, "0 or more"),
        ("weight_decay", params.weight_decay >= 0, "0 or more"),
        ("grad_clip_norm", params.grad_clip_norm >= 0, "0 (off) or more"),
    )
    for name, holds, rule in rules:
        value = getattr(params, name)
        if not (holds and np.isfinite(value)):
            raise RequestError(f"AdamParams.{name}: expected {rule}; got {value}.")
