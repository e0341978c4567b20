"""Four faults of vLLM (seen in 0.32), mended in the worker's process.

1. Prompt logprobs under an adapter of the unembedding. The adapter of each row of logits is looked
   up among the rows that are sampled, which prompt tokens are not: the CPU operators fail on it,
   those of a GPU may take another request's adapter. Here prompts are scored one request at a
   time, under a mapping of their own.
2. The CPU operators. A row without adapter has index -1, and so gets whatever is in the last slot;
   and they copy the adapter's matrices once for each token. Here rows are grouped by adapter: two
   matrix products a group, none for rows without.
3. Seeds on a CPU. When a prompt is read in several steps, each but the last draws a token that is
   thrown away, and the request's generator is set back by four; one of a CPU cannot do that, and
   the engine dies. Here its state is kept and restored.
4. Ranks. With each logprob vLLM counts how many tokens are likelier, in a kernel that is compiled
   at the first sample, however eager the engine: on a CPU that takes a C++ compiler and many
   seconds, in which it answers nobody. Nobody here asks for ranks: all of them are 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = ["add_adapters", "group_rows", "install"]

Groups: TypeAlias = list[tuple[int, Tensor | slice]]
"""(slot of an adapter, rows that use it); rows without adapter are in none."""


def install() -> None:
    """Mend vLLM in this process, before it makes its model runner."""
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
    from vllm.v1.sample import sampler
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    _score_prompts_one_by_one(GPUModelRunner)
    _group_by_adapter(PunicaWrapperCPU)
    _rewind_generators(GPUModelRunner)
    _leave_out_ranks(sampler)


def _score_prompts_one_by_one(runner_class: Any) -> None:
    original: Callable[..., dict[str, Any]] = runner_class._get_prompt_logprobs_dict

    def get_prompt_logprobs(
        runner: Any, hidden_states: Tensor, num_scheduled_tokens: dict[str, int]
    ) -> dict[str, Any]:
        from vllm.lora.layers import LoRAMapping

        asked: dict[str, int] = runner.num_prompt_logprobs
        if not asked or not runner.lora_config:
            return original(runner, hidden_states, num_scheduled_tokens)
        found: dict[str, Any] = {}
        try:
            for request_id, width in list(asked.items()):
                count = num_scheduled_tokens.get(request_id)
                if count is None:
                    continue
                request = runner.requests[request_id].lora_request
                rows = (request.lora_int_id if request else 0,) * count
                mapping = LoRAMapping(rows, rows, is_prefill=True)
                runner.lora_manager.set_active_adapters({request} if request else set(), mapping)
                runner.num_prompt_logprobs = {request_id: width}
                found |= original(runner, hidden_states, num_scheduled_tokens)
                if request_id not in runner.num_prompt_logprobs:
                    del asked[request_id]
        finally:
            runner.num_prompt_logprobs = asked
        return found

    runner_class._get_prompt_logprobs_dict = get_prompt_logprobs


def group_rows(slot_R: Tensor) -> Groups:
    """Rows by slot. Slots int64 [R], -1 for none."""
    slots: list[int] = slot_R.unique().tolist()
    if len(slots) == 1:
        return [] if slots[0] < 0 else [(slots[0], slice(None))]
    return [(slot, (slot_R == slot).nonzero()[:, 0]) for slot in slots if slot >= 0]


def add_adapters(
    out_RO: Tensor, in_RI: Tensor, a_LrI: Tensor, b_LOr: Tensor, scale: float, groups: Groups
) -> None:
    """out += scale * in @ A.T @ B.T, each row with the adapter of its group."""
    for slot, rows in groups:
        low_Rr = in_RI[rows].to(a_LrI.dtype) @ a_LrI[slot, 0].T
        delta_RO = (low_Rr if scale == 1 else low_Rr * scale) @ b_LOr[slot, 0].T
        width = min(delta_RO.shape[1], out_RO.shape[1])  # the vocabulary may be padded
        out_RO[rows, :width] += delta_RO[:, :width].to(out_RO.dtype)


def _group_by_adapter(wrapper_class: Any) -> None:
    original: Callable[..., None] = wrapper_class.update_metadata

    def update_metadata(wrapper: Any, *args: Any, **kwargs: Any) -> None:
        original(wrapper, *args, **kwargs)
        wrapper.token_groups = group_rows(wrapper.token_lora_indices)
        wrapper.sampler_groups = group_rows(wrapper.sampler_indices)

    def add_lora_linear(
        wrapper: Any,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: tuple[Tensor, ...],
        lora_b_stacked: tuple[Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        **kwargs: Any,
    ) -> None:
        out, rows = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        start = 0
        for a, b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
            add_adapters(out[:, start : start + width], rows, a, b, scale, wrapper.token_groups)
            start += width

    def add_lora_logits(
        wrapper: Any,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: Tensor,
        lora_b_stacked: Tensor,
        scale: float,
        **kwargs: Any,
    ) -> None:
        slots, groups = wrapper.sampler_indices, wrapper.sampler_groups
        if len(slots) != len(x):  # a chunk of a prompt: some of its tokens are not scored
            groups = group_rows(slots[: len(x)])
        add_adapters(y, x, lora_a_stacked, lora_b_stacked, scale, groups)

    wrapper_class.update_metadata = update_metadata
    wrapper_class.add_lora_linear = add_lora_linear
    wrapper_class.add_lora_logits = add_lora_logits


def _rewind_generators(runner_class: Any) -> None:
    draw: Callable[..., Any] = runner_class._sample
    book: Callable[..., Any] = runner_class._bookkeeping_sync

    def discarded(runner: Any) -> list[int]:
        """Rows of the batch with a generator of a CPU whose token will be thrown away."""
        if runner.device.type != "cpu":
            return []
        batch = runner.input_batch
        thrown: list[int] = runner.discard_request_mask.np[: batch.num_reqs].nonzero()[0].tolist()
        return [row for row in thrown if row in batch.generators]

    def sample(runner: Any, *args: Any, **kwargs: Any) -> Any:
        generators = [runner.input_batch.generators[row] for row in discarded(runner)]
        states = [generator.get_state() for generator in generators]
        output = draw(runner, *args, **kwargs)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        return output

    def bookkeeping_sync(runner: Any, *args: Any, **kwargs: Any) -> Any:
        batch = runner.input_batch
        rows = discarded(runner)
        hidden = {row: batch.generators.pop(row) for row in rows}
        try:
            return book(runner, *args, **kwargs)
        finally:
            batch.generators.update(hidden)

    runner_class._sample = sample
    runner_class._bookkeeping_sync = bookkeeping_sync


def _leave_out_ranks(sampler_module: Any) -> None:
    def no_ranks(logprobs_RV: Tensor, sampled_R1: Tensor) -> Tensor:
        return torch.zeros(len(sampled_R1), dtype=torch.int64, device=sampled_R1.device)

    sampler_module.batched_count_greater_than = no_ranks
