"""The embedded sampler: continuous batching over key-value slots, in the engine's own process."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import msgspec
import torch

from tinker_rl.engine.samplers.base import AdapterWeights, SampleJob
from tinker_rl.engine.samplers.embedded.admission import AdmissionQueue, Grant
from tinker_rl.engine.samplers.embedded.prompts import (
    PromptCache,
    PromptScores,
    ReadPrompt,
    read_prompts,
)
from tinker_rl.engine.samplers.embedded.replica import Replica, VersionTensors
from tinker_rl.engine.samplers.embedded.rows import Decode, FinishedRow, Row, Rows
from tinker_rl.types import SampledSequence, SampleResponse

__all__ = ["EmbeddedSampler", "EmbeddedSamplerConfig"]

BASE = ""
"""The version without an adapter."""


class EmbeddedSamplerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the embedded sampler."""

    max_rows: int = 128
    """Most sequences sampled at once."""
    max_cache_gb: float = 4.0
    """Bound on the memory of keys and values, in gigabytes (1e9 bytes)."""
    deterministic: bool = False
    """Same seed, same bits, whatever else is asked for: one request a forward pass, and no
    prompt is shared between requests."""


@dataclass(eq=False)
class _Version:
    """Rows and waiting jobs of one version."""

    rows: Rows
    waiting: AdmissionQueue = field(default_factory=AdmissionQueue)


@dataclass(eq=False)
class _Progress:
    """What is done of a job."""

    job: SampleJob
    sequences: dict[int, SampledSequence] = field(default_factory=dict[int, SampledSequence])
    scores: PromptScores = field(default_factory=PromptScores)
    prompt: ReadPrompt | None = None
    """Held while samples of the job wait, so that the prompt is read once."""
    hits: int = 0


class EmbeddedSampler:
    """Samples many requests at once; a row that ends makes room for one that waits.

    Synchronous: the owner calls it from the device's thread. Each version has rows of its own;
    versions take turns, a burst each.
    """

    def __init__(
        self, replica: Replica, decode: Decode, config: EmbeddedSamplerConfig | None = None
    ) -> None:
        self.config = config or EmbeddedSamplerConfig()
        self._replica = replica
        self._decode = decode
        self._tensors: dict[str, VersionTensors | None] = {BASE: None}
        self._leaving: set[str] = set()
        self._versions: dict[str, _Version] = {}
        self._jobs: dict[int, _Progress] = {}
        self._steps = 0
        config_ = replica.config
        heads = getattr(config_, "num_key_value_heads", None) or config_.num_attention_heads
        size = getattr(config_, "head_dim", None) or (
            config_.hidden_size // config_.num_attention_heads
        )
        per_token = 2 * config_.num_hidden_layers * heads * size * replica.dtype.itemsize
        self._max_cached = max(1, int(self.config.max_cache_gb * 1e9 / per_token))
        """Tokens whose keys and values fit the bound."""
        self._prompts = PromptCache(self._max_cached // 8)

    # --------------------------------------------------------------------------------- versions

    def add_version(self, version: str, weights: AdapterWeights) -> None:
        """Make a version's weights available."""
        self._leaving.discard(version)
        if version not in self._tensors:
            self._tensors[version] = self._replica.prepare(weights)

    def remove_version(self, version: str) -> None:
        """Forget a version as soon as no job uses it."""
        self._leaving.add(version)
        self._sweep()

    def _sweep(self) -> None:
        for name in [
            n for n, v in self._versions.items() if not len(v.rows) and not len(v.waiting)
        ]:
            del self._versions[name]
        for name in self._leaving - set(self._versions):
            self._tensors.pop(name, None)
            self._prompts.forget(name)
            self._leaving.discard(name)

    # ------------------------------------------------------------------------------------- jobs

    def add(self, job: SampleJob) -> None:
        """Queue a job."""
        if job.version not in self._versions:
            rows = Rows(self._replica, self.config.max_rows, self._decode)
            self._versions[job.version] = _Version(rows)
        self._versions[job.version].waiting.push(job, self._steps)
        self._jobs[job.job_id] = _Progress(job)

    @torch.inference_mode()  # the slots are tensors of that mode
    def cancel(self, job_id: int) -> None:
        """Drop a job, wherever it is; unknown ids are ignored."""
        progress = self._jobs.pop(job_id, None)
        if progress is not None:
            version = self._versions[progress.job.version]
            version.waiting.remove(job_id)
            version.rows.drop(job_id)
            self._sweep()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._jobs

    # ---------------------------------------------------------------------------------- working

    @torch.inference_mode()
    def burst(self, seconds: float) -> list[tuple[int, SampleResponse]]:
        """Sample for about `seconds` under one version; returns the jobs that ended, by id."""
        if not self._versions:
            return []
        name = next(iter(self._versions))
        version = self._versions.pop(name)
        self._versions[name] = version  # to the end: versions take turns
        self._replica.use(self._tensors[name])
        deadline = time.perf_counter() + seconds
        done: list[tuple[int, SampleResponse]] = []
        while True:
            ended = self._admit(version)
            if len(version.rows):
                ended += version.rows.step()
                self._steps += 1
            done += [response for row in ended for response in self._collect(row)]
            if time.perf_counter() >= deadline or not (len(version.rows) or len(version.waiting)):
                break
        self._sweep()
        return done

    def _room(self, version: _Version) -> int:
        """How many rows may start now."""
        rows, waiting = version.rows, version.waiting
        if not len(waiting):
            return 0
        if self.config.deterministic:
            return rows.free if not len(rows) else 0
        # Reading prompts stops the others for a moment, so wait until a few can be read together.
        few = max(1, self.config.max_rows // 16)
        return rows.free if rows.free >= min(few, waiting.rows) else 0

    def _admit(self, version: _Version) -> list[FinishedRow]:
        room = self._room(version)
        if not room:
            return []
        grants = self._fit(version, version.waiting.take(room, one_job=self.config.deterministic))
        if not grants:
            return []
        self._read(grants)
        entries: list[tuple[Row, ReadPrompt]] = []
        for grant in grants:
            progress = self._jobs[grant.job.job_id]
            assert progress.prompt is not None
            entries += [
                (Row(grant.job, sample), progress.prompt)
                for sample in range(grant.first, grant.first + grant.count)
            ]
            if grant.first + grant.count == grant.job.num_samples:
                progress.prompt = None
        return version.rows.admit(entries)

    def _fit(self, version: _Version, grants: list[Grant]) -> list[Grant]:
        """Those grants whose rows fit the bound on memory; the others go back to wait.

        None overtakes one that does not fit: it would take the room that this one waits for.
        """
        rows, longest = len(version.rows), version.rows.longest
        fitting: list[Grant] = []
        full = False
        for grant in grants:
            length = max(longest, len(grant.job.prompt) + grant.job.max_tokens)
            count = 0 if full else max(0, min(grant.count, self._max_cached // length - rows))
            if count == 0 and rows == 0:
                count = 1  # alone, a row always fits
            if count:
                fitting.append(replace(grant, count=count))
                rows, longest = rows + count, length
            if count < grant.count:
                full = True
                version.waiting.put_back(grant, count)
        return fitting

    def _read(self, grants: list[Grant]) -> None:
        """See that the prompt of every granted job was read."""
        unread: dict[object, list[_Progress]] = {}
        for grant in grants:
            job, progress = grant.job, self._jobs[grant.job.job_id]
            if progress.prompt is not None:
                continue
            scored = job.prompt_logprobs or job.topk_prompt
            shared = not scored and not self.config.deterministic
            cached = self._prompts.get(job) if shared else None
            if cached is not None:
                progress.prompt, progress.hits = cached, len(job.prompt)
            else:
                key = job.prompt if shared else job.job_id
                unread.setdefault(key, []).append(progress)
        if not unread:
            return
        first = [waiting[0].job for waiting in unread.values()]
        for waiting, (prompt, scores) in zip(
            unread.values(), read_prompts(self._replica, first), strict=True
        ):
            if not self.config.deterministic:
                self._prompts.put(waiting[0].job, prompt)
            for place, progress in enumerate(waiting):
                progress.prompt, progress.scores = prompt, scores
                progress.hits = len(progress.job.prompt) if place else 0

    def _collect(self, finished: FinishedRow) -> list[tuple[int, SampleResponse]]:
        job = finished.row.job
        progress = self._jobs[job.job_id]
        progress.sequences[finished.row.sample] = finished.sequence
        if len(progress.sequences) < job.num_samples:
            return []
        del self._jobs[job.job_id]
        response = SampleResponse(
            sequences=[progress.sequences[index] for index in range(job.num_samples)],
            prompt_logprobs_np=progress.scores.logprobs,
            topk_prompt_logprobs_np=progress.scores.topk,
            prompt_cache_hit_tokens=progress.hits,
        )
        return [(job.job_id, response)]
