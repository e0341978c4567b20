"""Trains the adapters of one base model: forward, backward, AdamW.

Synchronous code: whoever owns a `Learner` calls it from one thread. Long calls are generators that
stop after each micro-batch, so that others get the device in between.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import msgspec
import numpy as np
import peft
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tinker_rl.engine import lora
from tinker_rl.engine.asks import collect_asks
from tinker_rl.engine.custom_loss import call_custom_loss, check_finite
from tinker_rl.engine.losses import get_loss, loss_config
from tinker_rl.engine.optimizer import check_adam, gradient_norm, make_optimizer, take_step
from tinker_rl.engine.passes import Passes
from tinker_rl.engine.validation import check_data
from tinker_rl.engine.work import WorkMeter, architecture_of, known_peak_flops
from tinker_rl.errors import ConfigError, RequestError
from tinker_rl.losses import CustomLoss
from tinker_rl.types import (
    AdamParams,
    Datum,
    ForwardBackwardOutput,
    LoraConfig,
    OptimStepResponse,
    TensorData,
)

__all__ = ["Adapter", "Learner", "LearnerConfig", "Steps"]

Steps: TypeAlias = Generator[None, None, ForwardBackwardOutput]
"""Work that stops after each micro-batch and gives its result at the end."""


class LearnerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a learner computes; none of it changes a gradient beyond rounding."""

    token_budget: int | None = None
    """Most tokens of a micro-batch, those of shared prefixes counted once. None: 16384 on a GPU,
    4096 on a CPU."""
    gradient_checkpointing: bool = False
    """Keep one hidden state a layer and token, and compute the rest again for the backward pass:
    less memory, about a third more time."""
    peak_flops: float | None = None
    """Most floating-point operations a second of the device, for the `mfu` metric. None: as known
    for the GPU; where it is not known, the metric is left out."""


@dataclass
class Adapter:
    """One training model: its parameters, gradients waiting for a step, and optimiser."""

    name: str
    config: LoraConfig
    peft_config: peft.LoraConfig
    params: dict[str, nn.Parameter]
    tensors: dict[str, Tensor]
    """The parameters themselves, under the names of a peft adapter file."""
    optimizer: torch.optim.AdamW
    gradients: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Sums over the requests since the last step; empty when there was none."""
    steps: int = 0
    """Optimiser steps taken."""


class Learner:
    """All adapters over one frozen base model. Gradients are exact sums, never averaged."""

    def __init__(
        self,
        model: PreTrainedModel,
        base_model: str,
        context: int,
        config: LearnerConfig | None = None,
    ) -> None:
        """
        Raises:
            UnsupportedError: if the model's logits are not of the plain kind.
            ConfigError: if the model cannot do what `config` asks for.
        """
        config = config or LearnerConfig()
        self.base_model = base_model
        self.context = context
        self.device = model.device
        self.token_budget = _token_budget(config, self.device)
        self._passes = Passes(model, base_model)
        if config.gradient_checkpointing:
            self._passes.checkpoint_gradients()
        self._architecture = architecture_of(model)
        self._peak_flops = config.peak_flops or known_peak_flops(self.device)
        self._model: PreTrainedModel | peft.PeftModel = model
        self._layers = lora.LinearLayers.of(model)
        self._adapters: dict[str, Adapter] = {}
        self._active: str | None = None

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self._passes.vocab_size

    # ------------------------------------------------------------------------------- adapters

    def create(self, name: str, config: LoraConfig) -> Adapter:
        """Add a freshly initialised adapter; without a seed one is drawn and kept in its config."""
        seed = config.seed if config.seed is not None else secrets.randbits(31)
        config = msgspec.structs.replace(config, seed=seed)
        settings = lora.peft_config(self._layers, config)
        self._model = lora.add_adapter(self._model, name, settings, seed % 2**63)
        params = lora.adapter_parameters(self._model, name)
        optimizer = make_optimizer(params.values())
        tensors = lora.adapter_tensors(self._model, name)
        self._adapters[name] = Adapter(name, config, settings, params, tensors, optimizer)
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
        tensors = self._adapters[name].tensors
        return {key: value.clone().contiguous() for key, value in tensors.items()}

    def load_weights(self, name: str, state: dict[str, Tensor]) -> None:
        """Overwrite the adapter's tensors; gradients waiting for a step are dropped. Names and
        shapes were checked by the caller."""
        adapter = self._adapters[name]
        for key, value in state.items():
            adapter.tensors[key].copy_(value)
        adapter.gradients.clear()

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
            Steps whose result has `logprobs` for every datum: float32, the shape of its
            `target_tokens`.
        Raises:
            RequestError: for data or options that the loss cannot be computed on.
        """
        adapter = self._adapters[name]
        spec = None if custom is not None else get_loss(loss_fn)
        keys = () if spec is None else spec.inputs
        optional = () if spec is None else spec.optional
        options = {} if spec is None else loss_config(loss_fn, config)
        sequences = check_data(
            data,
            [key for key in keys if key not in optional],
            optional,
            vocab_size=self.vocab_size,
            context=self.context,
            allow_other_inputs=custom is not None,
        )
        meter = WorkMeter(self._architecture, self._peak_flops)
        self._activate(name)
        _clear(adapter)
        logprobs: list[Tensor] = [torch.empty(0)] * len(data)
        loss_sum = 0.0
        metrics: dict[str, float] = {}
        try:
            for batch in self._passes.plan(sequences, self.token_budget):
                with meter.working(), torch.set_grad_enabled(not forward_only):
                    mask = None if spec is None else spec.mask
                    asks = collect_asks(batch, data, keys, mask, self.device)
                    if spec is None:
                        logprobs_A = self._passes.logprobs(batch, asks)
                    else:
                        logprobs_A, loss = self._passes.loss(batch, asks, loss_fn, spec, options)
                        loss_sum += check_finite("forward_backward", float(loss))
                    meter.count(batch, asks, forward_only=forward_only)
                for index, part in zip(batch.indices, asks.split(logprobs_A), strict=True):
                    logprobs[index] = part
                yield
            with meter.working():
                if custom is not None:
                    loss, metrics = call_custom_loss(custom, data, logprobs)
                    loss_sum = check_finite("forward_backward_custom", float(loss.detach()))
                    if not forward_only:
                        loss.backward()
                if not forward_only:
                    _commit(adapter)
        finally:
            _clear(adapter)
        return ForwardBackwardOutput(
            loss_fn_outputs=[{"logprobs": TensorData.from_torch(part)} for part in logprobs],
            metrics={
                "loss:sum": loss_sum,
                **meter.metrics(),
                **{key if ":" in key else f"{key}:mean": value for key, value in metrics.items()},
            },
        )

    # ------------------------------------------------------------------------------- optimiser

    def optim_step(self, name: str, params: AdamParams) -> OptimStepResponse:
        """One AdamW step on the sum of the gradients since the last; they are cleared.

        Raises:
            RequestError: if there are none, if they are not finite, or on an option out of range.
        """
        check_adam(params)
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
            norm = take_step(adapter.optimizer, list(adapter.params.values()), params)
        finally:
            _clear(adapter)
        adapter.steps += 1
        return OptimStepResponse(
            metrics={"grad_norm:mean": norm, "learning_rate:mean": params.learning_rate}
        )


def _token_budget(config: LearnerConfig, device: torch.device) -> int:
    budget = config.token_budget
    if budget is None:
        return 16384 if device.type == "cuda" else 4096
    if budget < 1:
        raise ConfigError(f"LearnerConfig.token_budget: expected 1 or more; got {budget}.")
    return budget


def _clear(adapter: Adapter) -> None:
    for parameter in adapter.params.values():
        parameter.grad = None


def _commit(adapter: Adapter) -> None:
    """Add the gradients of one whole request to those that wait for a step.

    A parameter that the request did not reach has a gradient of 0.

    Raises:
        RequestError: if they are not finite; none of them is added.
    """
    norm = gradient_norm(p.grad for p in adapter.params.values() if p.grad is not None)
    if not np.isfinite(norm):
        raise RequestError(
            f"forward_backward: expected a finite gradient; got one of norm {norm}. Check the "
            "logprobs and advantages of this request: nothing of it was applied."
        )
    for key, parameter in adapter.params.items():
        if key not in adapter.gradients:
            gradient = parameter.grad
            adapter.gradients[key] = torch.zeros_like(parameter) if gradient is None else gradient
        elif parameter.grad is not None:
            adapter.gradients[key] += parameter.grad
