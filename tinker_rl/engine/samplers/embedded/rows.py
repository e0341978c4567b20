"""The rows that are being sampled under one version: their settings, tokens and slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tinker_rl.engine.prefix_tree import IntArray
from tinker_rl.engine.samplers.base import SampleJob
from tinker_rl.engine.samplers.embedded.draw import draw, log_distribution, uniforms
from tinker_rl.engine.samplers.embedded.kv_cache import Keys, SlotCache
from tinker_rl.engine.samplers.embedded.prompts import ReadPrompt
from tinker_rl.engine.samplers.embedded.replica import Replica
from tinker_rl.types import MASKED_LOGPROB, SampledSequence, StopReason, TopkLogprobs

__all__ = ["FinishedRow", "Row", "Rows"]

Decode = Callable[[list[int]], str]
Keep = Callable[[IntArray, Callable[[int, int], Keys]], None]
"""Takes the tokens of a row that ended whose keys and values are known, and what gives those."""

_SLOTS = 16
"""Slots are added by so many: adding copies everything."""


@dataclass(eq=False)
class Row:
    """One sample of a job."""

    job: SampleJob
    sample: int
    """Index among the job's samples."""
    prompt: IntArray
    top: list[tuple[Tensor, Tensor]] = field(default_factory=list[tuple[Tensor, Tensor]])
    """Ids and logprobs of the alternatives to each token, where the job asks for them."""


@dataclass(frozen=True, eq=False)
class FinishedRow:
    row: Row
    sequence: SampledSequence


class Rows:
    """Up to `capacity` rows, the used ones first; all tensors share that order.

    Nothing here schedules: `admit`, `step` and `drop` change the rows, and say which ended.
    """

    def __init__(
        self, replica: Replica, capacity: int, decode: Decode, keep: Keep | None = None
    ) -> None:
        self._replica = replica
        self._keep = keep
        self._decode = decode
        self._endings: dict[tuple[str, ...], dict[int, bool]] = {}
        self.rows: list[Row] = []
        self._cache = SlotCache()
        device = replica.device
        self._last = torch.zeros(capacity, dtype=torch.int64, device=device)
        self._position = torch.zeros(capacity, dtype=torch.int64, device=device)
        self._generated = torch.zeros(capacity, dtype=torch.int64, device=device)
        self._limit = torch.zeros(capacity, dtype=torch.int64, device=device)
        self._temperature = torch.ones(capacity, device=device)
        self._top_k = torch.full_like(self._last, -1)
        self._top_p = torch.ones(capacity, device=device)
        self._stops = torch.full_like(self._last[:, None], -1)
        self._uniform = torch.zeros(capacity, 1, dtype=torch.float64, device=device)
        self._tokens = torch.zeros(capacity, 1, dtype=torch.int32, device=device)
        self._logprobs = torch.zeros(capacity, 1, device=device)
        self._capacity = capacity

    def __len__(self) -> int:
        """Rows in use."""
        return len(self.rows)

    @property
    def free(self) -> int:
        """Rows not in use."""
        return self._capacity - len(self.rows)

    @property
    def stored(self) -> int:
        """Tokens whose keys and values the slots have room for."""
        slots, length = self._cache.shape
        return slots * length

    @property
    def longest(self) -> int:
        """Tokens that every slot has, or may have to grow to, for the rows in use."""
        if not self.rows:
            return 0
        wanted = max(len(row.job.prompt) + row.job.max_tokens for row in self.rows)
        return max(wanted, self._cache.shape[1])

    # -------------------------------------------------------------------------------- admission

    def admit(self, entries: Sequence[tuple[Row, ReadPrompt]]) -> list[FinishedRow]:
        """Start rows after their prompts, and draw the first token of each."""
        first, count = len(self.rows), len(entries)
        limit = max(row.job.max_tokens for row, _ in entries)
        stops = max(len(row.job.stop.token_ids) for row, _ in entries)
        self._widen(limit, stops)
        longest = max(len(row.job.prompt) for row, _ in entries)
        if not self.rows:
            self._cache = (
                SlotCache()
            )  # slots grow and never shrink: begin afresh while none is used
        slots = min(self._capacity, -(-(first + count) // _SLOTS) * _SLOTS)
        self._cache.reserve(entries[0][1].pieces[0], slots, longest + 1)
        ends: list[Tensor] = []
        counts: list[int] = []
        start = 0
        while (
            start < count
        ):  # rows of one prompt stand together: copy it to all their slots at once
            prompt = entries[start][1]
            same = start
            while same < count and entries[same][1] is prompt:
                same += 1
            self._cache.put(first + start, same - start, prompt.pieces)
            ends.append(prompt.end_H)
            counts.append(same - start)
            start = same
        for offset, (row, _) in enumerate(entries):
            self._set(first + offset, row)
            self.rows.append(row)
        logits_UV = self._replica.logits(torch.stack(ends))
        counts_U = torch.tensor(counts, device=logits_UV.device)
        return self._sample(logits_UV.repeat_interleave(counts_U, dim=0), first)

    def _widen(self, limit: int, stops: int) -> None:
        if limit > self._tokens.shape[1]:
            more = limit - self._tokens.shape[1]
            pad = torch.nn.functional.pad
            self._tokens = pad(self._tokens, (0, more))
            self._logprobs = pad(self._logprobs, (0, more))
            self._uniform = pad(self._uniform, (0, more))
        if stops > self._stops.shape[1]:
            more = stops - self._stops.shape[1]
            self._stops = torch.nn.functional.pad(self._stops, (0, more), value=-1)

    def _set(self, index: int, row: Row) -> None:
        job = row.job
        self._position[index] = len(job.prompt)
        self._generated[index] = 0
        self._limit[index] = job.max_tokens
        self._temperature[index] = job.temperature
        self._top_k[index] = job.top_k
        self._top_p[index] = job.top_p
        self._stops[index] = -1
        if job.stop.token_ids:
            self._stops[index, : len(job.stop.token_ids)] = torch.tensor(job.stop.token_ids)
        numbers = torch.from_numpy(uniforms(job.seed, row.sample, job.max_tokens))
        self._uniform[index, : job.max_tokens] = numbers

    # ----------------------------------------------------------------------------------- decode

    def step(self) -> list[FinishedRow]:
        """Draw one token more on every row; returns the rows that ended with it."""
        n = len(self.rows)
        position_R = self._position[:n]
        length = int(position_R.max()) + 1
        if length > self._cache.shape[1]:
            self._cache.grow(length, self.longest)
        self._cache.aim(n, position_R, length)
        seen_RL = torch.arange(length, device=position_R.device)[None] <= position_R[:, None]
        mask = torch.zeros(n, 1, 1, length, dtype=self._replica.dtype, device=position_R.device)
        mask.masked_fill_(~seen_RL[:, None, None], -torch.inf)
        hidden_RH = self._replica.decode(self._last[:n], position_R, mask, self._cache)
        self._position[:n] += 1
        return self._sample(self._replica.logits(hidden_RH), 0)

    def _sample(self, logits_RV: Tensor, first: int) -> list[FinishedRow]:
        """Draw for the rows from `first` on, and take out those that are complete."""
        part = slice(first, len(self.rows))
        temperature_R = self._temperature[part]
        logprobs_RV = log_distribution(
            logits_RV, temperature_R, self._top_k[part], self._top_p[part]
        )
        index_R1 = self._generated[part, None]
        uniform_R = self._uniform[part].gather(1, index_R1)[:, 0]
        token_R, logprob_R = draw(logprobs_RV, temperature_R, uniform_R)
        self._tokens[part].scatter_(1, index_R1, token_R[:, None].to(torch.int32))
        self._logprobs[part].scatter_(1, index_R1, logprob_R[:, None])
        self._last[part] = token_R
        self._generated[part] += 1
        for offset, row in enumerate(self.rows[part]):
            if row.job.topk_samples:
                values, ids = logprobs_RV[offset].topk(row.job.topk_samples)
                row.top.append((ids.cpu(), values.cpu()))
        stopped_R = (self._stops[part] == token_R[:, None]).any(dim=1)
        stopped_R |= self._string_stops(first, token_R)
        ended_R = stopped_R | (self._generated[part] >= self._limit[part])
        if not bool(ended_R.any()):
            return []
        ended = [first + int(index) for index in ended_R.nonzero()[:, 0]]
        stopped = set((stopped_R.nonzero()[:, 0] + first).tolist())
        finished = [self._finish(i, "stop" if i in stopped else "length") for i in ended]
        self._remove(ended)
        return finished

    def _string_stops(self, first: int, token_R: Tensor) -> Tensor:
        """Which rows from `first` on just completed one of their stop strings."""
        hit_R = torch.zeros_like(token_R, dtype=torch.bool)
        for offset, row in enumerate(self.rows[first:]):
            strings = row.job.stop.strings
            if not strings or not self._may_end(strings, int(token_R[offset])):
                continue
            # A character takes up to four tokens, and the first of the window may be cut.
            window = 4 * max(map(len, strings)) + 4
            count = int(self._generated[first + offset])
            tail = self._tokens[first + offset, max(0, count - window) : count].tolist()
            text = self._decode(tail)
            hit_R[offset] = any(string in text for string in strings)
        return hit_R

    def _may_end(self, strings: tuple[str, ...], token: int) -> bool:
        """Whether the token's own text holds the last character of a stop string."""
        known = self._endings.setdefault(strings, {})
        if token not in known:
            text = self._decode([token])
            known[token] = "\ufffd" in text or any(string[-1] in text for string in strings)
        return known[token]

    def _finish(self, index: int, reason: StopReason) -> FinishedRow:
        row, sequence = self.rows[index], self._sequence(index, reason)
        if self._keep is not None:
            tokens = np.concatenate([row.prompt, sequence.tokens_np[:-1]])  # the last was not read
            self._keep(tokens, partial(self._cache.cut, index))
        return FinishedRow(row, sequence)

    def _sequence(self, index: int, reason: StopReason) -> SampledSequence:
        row, count = self.rows[index], int(self._generated[index])
        topk = None
        if row.top:
            ids = torch.stack([ids for ids, _ in row.top]).numpy().astype(np.int32)
            values = torch.stack([values for _, values in row.top]).numpy()
            cut_off = np.isneginf(values)
            topk = TopkLogprobs(
                np.where(cut_off, 0, ids), np.where(cut_off, MASKED_LOGPROB, values)
            )
        return SampledSequence(
            stop_reason=reason,
            tokens_np=self._tokens[index, :count].cpu().numpy().copy(),
            logprobs_np=self._logprobs[index, :count].cpu().numpy().copy(),
            topk_logprobs_np=topk,
        )

    # ---------------------------------------------------------------------------------- removal

    def drop(self, job_id: int) -> list[FinishedRow]:
        """Take out the rows of a job, unfinished; returns what they have so far.

        Their keys and values are not kept: who interrupts goes on under other weights.
        """
        mine = [i for i, row in enumerate(self.rows) if row.job.job_id == job_id]
        parts = [FinishedRow(self.rows[i], self._sequence(i, "interrupted")) for i in mine]
        self._remove(mine)
        return parts

    def _remove(self, indices: list[int]) -> None:
        """Close the gaps with rows from the end, so that the used ones stay together."""
        if not indices:
            return
        gone = set(indices)
        kept = len(self.rows) - len(gone)
        target = [i for i in indices if i < kept]
        source = [i for i in range(kept, len(self.rows)) if i not in gone]
        if target:
            to, of = torch.tensor(target), torch.tensor(source)
            self._cache.move(of, to, int(self._position[: len(self.rows)].max()) + 1)
            for tensor in (
                self._last,
                self._position,
                self._generated,
                self._limit,
                self._temperature,
                self._top_k,
                self._top_p,
                self._stops,
                self._uniform,
                self._tokens,
                self._logprobs,
            ):
                tensor[to] = tensor[of]
            for new, old in zip(target, source, strict=True):
                self.rows[new] = self.rows[old]
        del self.rows[kept:]
