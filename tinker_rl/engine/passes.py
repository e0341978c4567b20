"""Forward and backward passes of micro-batches, whichever adapter is active."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from tinker_rl.engine.asks import Asks
from tinker_rl.engine.batching import Layout, MicroBatch, lay_out
from tinker_rl.engine.custom_loss import token_losses
from tinker_rl.engine.layouts import choose_layout, hidden_states
from tinker_rl.engine.prefix_tree import IntArray
from tinker_rl.engine.scoring import LanguageModel, loss_and_gradient, token_logprobs
from tinker_rl.errors import ConfigError, UnsupportedError
from tinker_rl.losses import LossSpec

__all__ = ["Passes"]

_log = logging.getLogger(__name__)


class Passes:
    """What a model computes of a micro-batch."""

    def __init__(self, model: PreTrainedModel, base_model: str) -> None:
        """
        Raises:
            UnsupportedError: if the model's logits are not of the plain kind.
        """
        self._language_model = LanguageModel(model)
        reason = self._language_model.check_supported()
        if reason:
            raise UnsupportedError(
                f"base_model {base_model!r}: expected logits that are the unembedding of the "
                f"hidden states; got {type(model).__name__}: {reason}. Use another model."
            )
        layout, reason = choose_layout(self._language_model)
        self.layout: Layout = layout
        if self.layout != "tree":
            how = "packed into rows" if self.layout == "packed" else "padded"
            _log.warning(
                "base_model %r: shared prefixes are computed once with full attention in every "
                "layer only; %s. Sequences are %s instead.",
                *(base_model, reason, how),
            )

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self._language_model.vocab_size

    def checkpoint_gradients(self) -> None:
        """Keep one hidden state a layer from now on, and make the rest again when it is needed.

        Raises:
            ConfigError: if the model does not know how.
        """
        model = self._language_model.model
        layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
        if not layers:
            raise ConfigError(
                f"LearnerConfig.gradient_checkpointing: expected a model that supports it; got "
                f"{type(model).__name__}, which does not. Leave it off."
            )
        model.gradient_checkpointing_enable({"use_reentrant": False})
        for layer in layers:  # the switch that transformers looks at; what is inside has no dropout
            layer.training = True

    def plan(self, sequences: Sequence[IntArray], token_budget: int) -> list[MicroBatch]:
        """Micro-batches of the sequences of a request, in the layout of this model."""
        return lay_out(sequences, token_budget, self.layout)

    def logprobs(self, batch: MicroBatch, asks: Asks) -> Tensor:
        """Log-probability of every token asked for, in datum order, shape [A]; differentiable."""
        hidden_NH = hidden_states(self._language_model, batch)[asks.place_N]
        return asks.in_datum_order(self._score(hidden_NH, asks.row_A, asks.token_A))

    def loss(
        self, batch: MicroBatch, asks: Asks, name: str, spec: LossSpec, config: dict[str, float]
    ) -> tuple[Tensor, Tensor]:
        """Logprobs in datum order, shape [A], and the loss, a scalar; neither has a graph.

        Where gradients are enabled, that of the loss is added to the parameters' `grad`.
        """
        if spec.scope == "token" and torch.is_grad_enabled():
            return self._loss_by_tokens(batch, asks, name, spec, config)
        logprobs_A = self.logprobs(batch, asks)
        loss = token_losses(name, spec, logprobs_A, asks.inputs, config).sum()
        if loss.requires_grad:
            loss.backward()
        return logprobs_A.detach(), loss.detach()

    def _loss_by_tokens(
        self, batch: MicroBatch, asks: Asks, name: str, spec: LossSpec, config: dict[str, float]
    ) -> tuple[Tensor, Tensor]:
        rows, trained = asks.num_trained, asks.num_trained_asks
        inputs = {key: value[asks.order_A] for key, value in asks.inputs.items()}

        def loss_fn(logprobs_A: Tensor, part: slice) -> Tensor:
            of_part = {key: value[part] for key, value in inputs.items()}
            return token_losses(name, spec, logprobs_A, of_part, config)

        with torch.set_grad_enabled(rows > 0):
            hidden_NH = hidden_states(self._language_model, batch)[asks.place_N]
        trained_NH = hidden_NH[:rows]
        logprobs, loss, grad_NH = loss_and_gradient(
            trained_NH.detach().requires_grad_(trained_NH.requires_grad),
            asks.row_A[:trained],
            asks.token_A[:trained],
            self._language_model.head,
            self.vocab_size,
            loss_fn,
        )
        with torch.no_grad():
            others = self._score(
                hidden_NH[rows:], asks.row_A[trained:] - rows, asks.token_A[trained:]
            )
        if grad_NH is not None:
            trained_NH.backward(grad_NH)
        return asks.in_datum_order(torch.cat([logprobs, others])), loss

    def _score(self, hidden_NH: Tensor, row_A: Tensor, token_A: Tensor) -> Tensor:
        return token_logprobs(hidden_NH, row_A, token_A, self._language_model.head, self.vocab_size)
