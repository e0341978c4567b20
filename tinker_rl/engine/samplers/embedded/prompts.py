"""Reads prompts: keys and values, first logits, and the logprobs of the prompt itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinker_rl.engine.batching import lay_out
from tinker_rl.engine.samplers.base import SampleJob
from tinker_rl.engine.samplers.embedded.kv_cache import PromptKeys, PromptReader
from tinker_rl.engine.samplers.embedded.replica import Replica
from tinker_rl.engine.scoring import logits_chunk
from tinker_rl.types import MASKED_LOGPROB, TopkLogprobs

__all__ = ["PromptCache", "PromptScores", "ReadPrompt", "read_prompts"]

_READ_TOKENS = 8192
"""Most prompt tokens, padding included, of one forward pass."""


class PromptScores(msgspec.Struct, frozen=True, eq=False):
    """What a request asked to know about its prompt."""

    logprobs: npt.NDArray[np.float32] | None = None
    topk: TopkLogprobs | None = None


class ReadPrompt(msgspec.Struct, frozen=True, eq=False):
    """A prompt that was read once and can be continued many times."""

    keys: PromptKeys
    logits_V: Tensor
    """Logits after its last token."""


class PromptCache:
    """Read prompts that are still in use, and the latest of those that are not.

    Members of a group ask for the same prompt one by one; whoever comes second finds it here.
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._prompts: OrderedDict[tuple[str, tuple[int, ...]], ReadPrompt] = OrderedDict()
        self._tokens = 0

    def get(self, job: SampleJob) -> ReadPrompt | None:
        """The job's prompt, if it was read under the job's version."""
        key = (job.version, job.prompt)
        found = self._prompts.get(key)
        if found is not None:
            self._prompts.move_to_end(key)
        return found

    def put(self, job: SampleJob, prompt: ReadPrompt) -> None:
        """Keep a prompt, and drop the oldest beyond the bound."""
        key = (job.version, job.prompt)
        if key not in self._prompts:
            self._prompts[key] = prompt
            self._tokens += len(job.prompt)
        while self._tokens > self._max_tokens and len(self._prompts) > 1:
            (_, tokens), _ = self._prompts.popitem(last=False)
            self._tokens -= len(tokens)

    def forget(self, version: str) -> None:
        """Drop every prompt of a version."""
        for key in [key for key in self._prompts if key[0] == version]:
            self._tokens -= len(key[1])
            del self._prompts[key]


def read_prompts(
    replica: Replica, jobs: Sequence[SampleJob]
) -> list[tuple[ReadPrompt, PromptScores]]:
    """Read the prompts of `jobs`, all of one version that is in use; each distinct one once."""
    found: dict[int, tuple[ReadPrompt, PromptScores]] = {}
    prompts = [np.array(job.prompt, np.int64) for job in jobs]
    lengths = [len(prompt) for prompt in prompts]
    for batch in lay_out(prompts, _READ_TOKENS, "padded"):
        indices = batch.indices  # one a row, in this order
        reader = PromptReader()
        hidden_UTH = replica.read(torch.from_numpy(batch.token_BT).to(replica.device), reader)
        last = torch.tensor([lengths[index] - 1 for index in indices], device=replica.device)
        rows = torch.arange(len(indices), device=replica.device)
        logits_UV = replica.logits(hidden_UTH[rows, last])
        for row, index in enumerate(indices):
            keys = PromptKeys(reader, row, lengths[index])
            scores = _scores(replica, hidden_UTH[row, : lengths[index]], jobs[index])
            found[index] = (ReadPrompt(keys, logits_UV[row]), scores)
    return [found[index] for index in range(len(jobs))]


def _scores(replica: Replica, hidden_TH: Tensor, job: SampleJob) -> PromptScores:
    """Untempered logprobs of the prompt's tokens, and the likeliest alternatives to each."""
    if not job.prompt_logprobs and not job.topk_prompt:
        return PromptScores()
    length, k = len(job.prompt), job.topk_prompt
    first = 1 if job.prompt_last_n is None else max(1, length - job.prompt_last_n)
    logprobs = np.full(length, np.nan, np.float32)
    top_ids = np.zeros((length, k), np.int32)
    top_logprobs = np.full((length, k), MASKED_LOGPROB, np.float32)
    target_T = torch.tensor(job.prompt, device=replica.device)
    step = logits_chunk(replica.vocab_size, replica.device)
    for start in range(first, length, step):
        stop = min(length, start + step)
        logits_NV = replica.logits(hidden_TH[start - 1 : stop - 1]).float()
        logprobs_NV = torch.log_softmax(logits_NV, dim=1)
        chosen_N = logprobs_NV.gather(1, target_T[start:stop, None])[:, 0]
        logprobs[start:stop] = chosen_N.cpu().numpy()
        if k:
            values, ids = cast(tuple[Tensor, Tensor], logprobs_NV.topk(k, dim=1))
            top_ids[start:stop] = ids.cpu().numpy()
            top_logprobs[start:stop] = values.cpu().numpy()
    return PromptScores(
        logprobs if job.prompt_logprobs else None,
        TopkLogprobs(top_ids, top_logprobs) if k else None,
    )
