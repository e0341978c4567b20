"""The loop that one would write with torch and peft alone: padded rows, all logits, AdamW."""

from __future__ import annotations

import peft
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM
from workloads import Workload

from tinker_rl import Datum
from tinker_rl.lineup import model_path

LEARNING_RATE = 1e-4
CPU_TOKENS = 32768
"""Most tokens of a batch on a CPU, padding included: about 12 GB on 27M parameters."""

_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]


class BareLoop:
    """One training step on a workload: the whole of it in one batch, where memory permits."""

    def __init__(self, base_model: str, work: Workload, tokens: int | None = None) -> None:
        """
        Args:
            tokens: Most tokens of a batch, padding included; None: as many as memory permits.
        """
        on_gpu = torch.cuda.is_available()
        self.device = torch.device("cuda" if on_gpu else "cpu")
        model = AutoModelForCausalLM.from_pretrained(
            model_path(base_model), dtype=torch.bfloat16 if on_gpu else torch.float32
        ).to(self.device)
        config = peft.LoraConfig(
            r=32, lora_alpha=32, target_modules=_TARGETS, task_type="CAUSAL_LM"
        )
        self.model = peft.get_peft_model(model, config)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            trained, lr=LEARNING_RATE, betas=(0.9, 0.95), eps=1e-12, weight_decay=0.0, fused=True
        )
        self.work = work
        self.rows_at_once = len(work.data)
        if tokens is None and not on_gpu:  # a GPU says when it is full: see `fit`
            tokens = CPU_TOKENS
        if tokens is not None:
            width = work.padded_tokens // len(work.data)
            self.rows_at_once = min(self.rows_at_once, max(1, tokens // width))
        self._cut()

    def _cut(self) -> None:
        size, data = self.rows_at_once, self.work.data
        self.batches = [
            _collate(data[first : first + size], self.device) for first in range(0, len(data), size)
        ]

    def fit(self) -> float:
        """A first step, with smaller batches if the GPU's memory asks for it; returns its loss."""
        while True:
            try:
                return self.step()
            except torch.OutOfMemoryError:
                if self.rows_at_once == 1:
                    raise
            # Out here the error, which holds the tensors that were made, is gone.
            self.optimizer.zero_grad()
            self.rows_at_once = (self.rows_at_once + 1) // 2
            self._cut()

    def step(self) -> float:
        """One step of AdamW on all batches; returns the loss before it."""
        losses: list[Tensor] = []
        for batch in self.batches:
            loss = _loss(self.work.loss_fn, self._logprobs(batch), batch)
            loss.backward()
            losses.append(loss.detach())
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(torch.stack(losses).sum())

    def touch(self) -> None:
        """Read all weights once, so that they are resident."""
        ids = torch.arange(8, device=self.device)[None]
        with torch.no_grad():
            self.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)

    def _logprobs(self, batch: dict[str, Tensor]) -> Tensor:
        logits_BTV = self.model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
        ).logits
        target_N = batch["target_tokens"].flatten()
        return -F.cross_entropy(logits_BTV.flatten(0, 1).float(), target_N, reduction="none")


def _collate(data: list[Datum], device: torch.device) -> dict[str, Tensor]:
    """Rows padded on the right with 0, each of shape [B, T]."""
    columns: dict[str, list[Tensor]] = {}
    for datum in data:
        ids = torch.tensor(datum.model_input.to_ints())
        row = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            **{key: value.to_torch() for key, value in datum.loss_fn_inputs.items()},
        }
        for key, value in row.items():
            columns.setdefault(key, []).append(value)
    pad = torch.nn.utils.rnn.pad_sequence
    return {key: pad(rows, batch_first=True).to(device) for key, rows in columns.items()}


def _loss(loss_fn: str, logprobs_N: Tensor, batch: dict[str, Tensor]) -> Tensor:
    if loss_fn == "cross_entropy":
        return -(batch["weights"].flatten() * logprobs_N).sum()
    advantages_N = batch["advantages"].flatten()
    log_ratio_N = (logprobs_N - batch["logprobs"].flatten()).masked_fill(advantages_N == 0, 0.0)
    return -(log_ratio_N.exp() * advantages_N).sum()
