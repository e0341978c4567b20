"""Reads prompts, a chunk at a time: keys and values, and the logprobs of the prompt itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinker_rl.engine.prefix_tree import IntArray
from tinker_rl.engine.samplers.base import SampleJob
from tinker_rl.engine.samplers.embedded.chunk import Chunk
from tinker_rl.engine.samplers.embedded.kv_cache import Keys, PromptKeys
from tinker_rl.engine.samplers.embedded.prefix_cache import Match
from tinker_rl.engine.samplers.embedded.replica import Replica
from tinker_rl.engine.scoring import logits_chunk
from tinker_rl.types import MASKED_LOGPROB, TopkLogprobs

__all__ = ["PromptReading", "PromptScores", "ReadPrompt", "first_scored", "read_chunk"]


class PromptScores(msgspec.Struct, frozen=True, eq=False):
    """What a request asked to know about its prompt."""

    logprobs: npt.NDArray[np.float32] | None = None
    topk: TopkLogprobs | None = None


class ReadPrompt(msgspec.Struct, frozen=True, eq=False):
    """A prompt that was read once and can be continued many times."""

    token_T: IntArray
    pieces: Sequence[Keys]
    """Keys and values of its tokens, in order."""
    end_H: Tensor
    """Hidden state after its last token."""


def first_scored(job: SampleJob) -> int | None:
    """The first prompt token whose logprob is asked for; None if there is no such question."""
    if not job.prompt_logprobs and not job.topk_prompt:
        return None
    return 1 if job.prompt_last_n is None else max(1, len(job.prompt) - job.prompt_last_n)


class _Scorer:
    """Untempered logprobs of a prompt's tokens, and the likeliest alternatives to each."""

    def __init__(self, job: SampleJob, first: int) -> None:
        length, k = len(job.prompt), job.topk_prompt
        self._job = job
        self._first = first
        self._logprobs = np.full(length, np.nan, np.float32)
        self._ids = np.zeros((length, k), np.int32)
        self._top = np.full((length, k), MASKED_LOGPROB, np.float32)

    def add(self, replica: Replica, start: int, hidden_TH: Tensor) -> None:
        """Score the tokens that follow the hidden states from position `start` on."""
        job = self._job
        first = max(self._first, start + 1)
        last = min(len(job.prompt), start + 1 + len(hidden_TH))
        step = logits_chunk(replica.vocab_size, replica.device)
        for begin in range(first, last, step):
            end = min(last, begin + step)
            logits_NV = replica.logits(hidden_TH[begin - 1 - start : end - 1 - start]).float()
            logprobs_NV = torch.log_softmax(logits_NV, dim=1)
            target_N = torch.tensor(job.prompt[begin:end], device=replica.device)
            chosen_N = logprobs_NV.gather(1, target_N[:, None])[:, 0]
            self._logprobs[begin:end] = chosen_N.cpu().numpy()
            if job.topk_prompt:
                values, ids = cast(tuple[Tensor, Tensor], logprobs_NV.topk(job.topk_prompt, dim=1))
                self._ids[begin:end] = ids.cpu().numpy()
                self._top[begin:end] = values.cpu().numpy()

    def scores(self) -> PromptScores:
        return PromptScores(
            self._logprobs if self._job.prompt_logprobs else None,
            TopkLogprobs(self._ids, self._top) if self._job.topk_prompt else None,
        )


class PromptReading:
    """A prompt that is being read."""

    def __init__(self, job: SampleJob, token_T: IntArray, match: Match, begun_as: object) -> None:
        """Begin behind what is known of it."""
        self.job = job
        self.begun_as = begun_as
        """Equal for prompts that would read the same tokens first."""
        self.token_T = token_T
        self.keys = PromptKeys(len(token_T), match.pieces)
        self.hits = match.length
        first = first_scored(job)
        self._scorer = None if first is None else _Scorer(job, first)
        self._end_H: Tensor | None = None

    @property
    def remaining(self) -> int:
        """Tokens to read."""
        return len(self.token_T) - self.keys.read

    @property
    def scores(self) -> PromptScores:
        """What was asked about the prompt, once it is read."""
        return self._scorer.scores() if self._scorer else PromptScores()

    def take(self, replica: Replica, start: int, hidden_TH: Tensor) -> None:
        """Use the hidden states of the tokens from `start` on."""
        if self._scorer is not None:
            self._scorer.add(replica, start, hidden_TH)
        if not self.remaining:
            self._end_H = hidden_TH[-1].clone()

    def result(self) -> ReadPrompt:
        """The prompt, once it is read."""
        assert self._end_H is not None
        return ReadPrompt(self.token_T, [self.keys.whole], self._end_H)


def read_chunk(replica: Replica, parts: Sequence[tuple[PromptReading, int]]) -> None:
    """Read that many tokens more of each prompt, in one forward pass."""
    starts = [reading.keys.read for reading, _ in parts]
    tokens = [
        reading.token_T[start : start + count]
        for (reading, count), start in zip(parts, starts, strict=True)
    ]
    chunk = Chunk([(r.keys, count) for r, count in parts], replica.device, replica.dtype)
    token_N = torch.from_numpy(np.concatenate(tokens)).to(replica.device)
    hidden_NH = replica.read(token_N, chunk)
    place = 0
    for (reading, count), start in zip(parts, starts, strict=True):
        reading.take(replica, start, hidden_NH[place : place + count])
        place += count
