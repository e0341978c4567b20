"""The embedded sampler: continuous batching over key-value slots, in the engine's own process."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import partial

import msgspec
import numpy as np
import torch

from tinker_rl.engine.prefix_tree import IntArray
from tinker_rl.engine.samplers.base import AdapterWeights, SampleJob, unsampled
from tinker_rl.engine.samplers.embedded.admission import AdmissionQueue, Grant
from tinker_rl.engine.samplers.embedded.prefix_cache import Match, PrefixCache
from tinker_rl.engine.samplers.embedded.prompts import (
    PromptReading,
    PromptScores,
    ReadPrompt,
    first_scored,
    read_chunk,
)
from tinker_rl.engine.samplers.embedded.replica import Replica, VersionTensors
from tinker_rl.engine.samplers.embedded.rows import Decode, FinishedRow, Row, Rows
from tinker_rl.types import SampledSequence, SampleResponse

__all__ = ["EmbeddedSampler", "EmbeddedSamplerConfig"]

BASE = ""
"""The version without an adapter."""

_TOKEN_BUDGET = {"cpu": 512, "cuda": 2048}
"""Prompt tokens read at once where the configuration does not say: a CPU takes its time."""

_ALIKE = 32
"""Prompts that go on with so many equal tokens do not read them side by side."""


class EmbeddedSamplerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the embedded sampler."""

    max_rows: int = 128
    """Most sequences sampled at once."""
    max_cache_gb: float = 4.0
    """Bound on the memory of keys and values, in gigabytes (1e9 bytes). Rows come first; what is
    kept for later prompts takes half at most, and an eighth in any case."""
    token_budget: int | None = None
    """Most prompt tokens read between two decoding steps; a longer prompt is read in chunks. None
    is 512 on a CPU and 2048 on a GPU."""
    deterministic: bool = False
    """Same seed, same bits, whatever else is asked for: one request a forward pass, and no prompt
    is shared between requests. The bits depend on the other options."""

    def __post_init__(self) -> None:
        if self.token_budget is not None and self.token_budget < 1:
            raise ValueError(
                f"EmbeddedSamplerConfig.token_budget: expected 1 or more, or None; got "
                f"{self.token_budget}."
            )


@dataclass(eq=False)
class _Version:
    """Rows and waiting jobs of one version."""

    rows: Rows
    waiting: AdmissionQueue = field(default_factory=AdmissionQueue)
    granted: list[Grant] = field(default_factory=list[Grant])
    """Samples that have rows kept for them, and start when their prompt is read."""
    reading: dict[int, PromptReading] = field(default_factory=dict[int, PromptReading])
    """Prompts of which a part is read, by job."""
    has_read: bool = False
    """Whether the last thing done was to read: then the rows are next."""

    @property
    def free(self) -> int:
        """Rows that are neither in use nor kept."""
        return self.rows.free - sum(grant.count for grant in self.granted)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(len(self.rows) or len(self.waiting) or self.granted)


@dataclass(eq=False)
class _Progress:
    """What is done of a job."""

    job: SampleJob
    token_T: IntArray
    sequences: dict[int, SampledSequence] = field(default_factory=dict[int, SampledSequence])
    scores: PromptScores = field(default_factory=PromptScores)
    prompt: ReadPrompt | None = None
    """Held while samples of the job wait, so that the prompt is read once."""
    hits: int = 0

    @property
    def response(self) -> SampleResponse:
        """What there is so far: empty for samples that have not begun, unscored prompts NaN."""
        response = unsampled(self.job)
        scores = {
            "prompt_logprobs_np": self.scores.logprobs,
            "topk_prompt_logprobs_np": self.scores.topk,
        }
        sequences = [self.sequences.get(i, empty) for i, empty in enumerate(response.sequences)]
        return msgspec.structs.replace(
            response,
            sequences=sequences,
            prompt_cache_hit_tokens=self.hits,
            **{name: value for name, value in scores.items() if value is not None},
        )


class EmbeddedSampler:
    """Samples many requests at once; a row that ends makes room for one that waits.

    Decoding steps and the reading of prompts take turns, a chunk of the token budget each time.

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
        self._interrupted: list[tuple[int, SampleResponse]] = []
        self._steps = 0
        config_ = replica.config
        heads = getattr(config_, "num_key_value_heads", None) or config_.num_attention_heads
        size = getattr(config_, "head_dim", None) or (
            config_.hidden_size // config_.num_attention_heads
        )
        per_token = 2 * config_.num_hidden_layers * heads * size * replica.dtype.itemsize
        self._max_cached = max(1, int(self.config.max_cache_gb * 1e9 / per_token))
        """Tokens whose keys and values fit the bound."""
        budget = _TOKEN_BUDGET.get(replica.device.type, _TOKEN_BUDGET["cuda"])
        self._token_budget = self.config.token_budget or budget
        self._prefixes = PrefixCache()

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
        for name in [name for name, version in self._versions.items() if not version.busy]:
            del self._versions[name]
        for name in self._leaving - set(self._versions):
            self._tensors.pop(name, None)
            self._prefixes.forget(name)
            self._leaving.discard(name)

    # ------------------------------------------------------------------------------------- jobs

    def add(self, job: SampleJob) -> None:
        """Queue a job."""
        if job.version not in self._versions:
            keep = None
            if not self.config.deterministic:
                keep = partial(self._prefixes.insert, job.version)
            rows = Rows(self._replica, self.config.max_rows, self._decode, keep)
            self._versions[job.version] = _Version(rows)
        self._versions[job.version].waiting.push(job, self._steps)
        self._jobs[job.job_id] = _Progress(job, np.array(job.prompt, np.int64))

    @torch.inference_mode()  # the slots are tensors of that mode
    def cancel(self, job_id: int) -> None:
        """Drop a job, wherever it is; unknown ids are ignored."""
        self._take_out(job_id)

    @torch.inference_mode()
    def interrupt(self, job_id: int) -> None:
        """End a job, wherever it is: the next burst returns what it has so far.

        Unknown ids are ignored.
        """
        progress = self._take_out(job_id)
        if progress is not None:
            self._interrupted.append((job_id, progress.response))

    def _take_out(self, job_id: int) -> _Progress | None:
        progress = self._jobs.pop(job_id, None)
        if progress is None:
            return None
        version = self._versions[progress.job.version]
        version.waiting.remove(job_id)
        version.granted = [g for g in version.granted if g.job.job_id != job_id]
        version.reading.pop(job_id, None)
        for part in version.rows.drop(job_id):
            progress.sequences[part.row.sample] = part.sequence
        self._sweep()
        return progress

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._jobs and not self._interrupted

    # ---------------------------------------------------------------------------------- working

    @torch.inference_mode()
    def burst(self, seconds: float) -> list[tuple[int, SampleResponse]]:
        """Sample for about `seconds` under one version; returns the jobs that ended, by id."""
        done, self._interrupted = self._interrupted, []
        if not self._versions:
            return done
        name = next(iter(self._versions))
        version = self._versions.pop(name)
        self._versions[name] = version  # to the end: versions take turns
        self._replica.use(self._tensors[name])
        deadline = time.perf_counter() + seconds
        while True:
            done += [response for row in self._work(version) for response in self._collect(row)]
            if time.perf_counter() >= deadline or not version.busy:
                break
        self._sweep()
        return done

    def _work(self, version: _Version) -> list[FinishedRow]:
        """Read a chunk of prompts or do a decoding step, in turns; returns the rows that ended."""
        rows = version.rows
        if not (version.has_read and len(rows)):
            self._grant(version)
        version.has_read = bool(version.granted) and not (version.has_read and len(rows))
        if version.has_read:
            self._read(version)
            ended = self._start(version)
        else:
            ended = rows.step() if len(rows) else []
            self._steps += 1
        stored = sum(other.rows.stored for other in self._versions.values())
        spare = min(self._max_cached - stored, self._max_cached // 2)
        self._prefixes.trim(max(spare, self._max_cached // 8))
        return ended

    # -------------------------------------------------------------------------------- admission

    def _room(self, version: _Version) -> int:
        """How many rows may be granted now."""
        waiting, free = version.waiting, version.free
        if not len(waiting):
            return 0
        if self.config.deterministic:
            return free if not len(version.rows) and not version.granted else 0
        # Reading prompts stops the others for a moment, so wait until a few can be read together.
        few = max(1, self.config.max_rows // 16)
        return free if free >= min(few, waiting.rows) else 0

    def _grant(self, version: _Version) -> None:
        """Keep rows for those that wait, as many as fit the bound on memory.

        None overtakes one that does not fit: it would take the room that this one waits for.
        """
        room = self._room(version)
        if not room:
            return
        kept = [len(grant.job.prompt) + grant.job.max_tokens for grant in version.granted]
        longest = max(version.rows.longest, *kept, 0)
        rows = self.config.max_rows - version.free
        full = False
        for grant in version.waiting.take(room, one_job=self.config.deterministic):
            length = max(longest, len(grant.job.prompt) + grant.job.max_tokens)
            count = 0 if full else max(0, min(grant.count, self._max_cached // length - rows))
            if count == 0 and rows == 0:
                count = 1  # alone, a row always fits
            if count:
                version.granted.append(replace(grant, count=count))
                rows, longest = rows + count, length
            if count < grant.count:
                full = True
                version.waiting.put_back(grant, count)

    def _start(self, version: _Version) -> list[FinishedRow]:
        """Start the rows of those grants whose prompt is read."""
        entries: list[tuple[Row, ReadPrompt]] = []
        unread: list[Grant] = []
        for grant in version.granted:
            job, progress = grant.job, self._jobs[grant.job.job_id]
            if progress.prompt is None:
                unread.append(grant)
                continue
            entries += [
                (Row(job, sample, progress.token_T), progress.prompt)
                for sample in range(grant.first, grant.first + grant.count)
            ]
            if grant.first + grant.count == job.num_samples:
                progress.prompt = None
        version.granted = unread
        return version.rows.admit(entries) if entries else []

    # ---------------------------------------------------------------------------------- reading

    def _read(self, version: _Version) -> None:
        """Read prompts of granted jobs, in that order, within the budget."""
        left = self._token_budget
        parts: list[tuple[PromptReading, int]] = []
        for job_id in dict.fromkeys(grant.job.job_id for grant in version.granted):
            progress = self._jobs[job_id]
            if progress.prompt is not None or left == 0:
                continue
            reading = version.reading.get(job_id) or self._begin(version, progress)
            if reading is not None:
                count = min(left, reading.remaining)
                parts.append((reading, count))
                left -= count
        if parts:
            read_chunk(self._replica, parts)
        for reading, _ in parts:
            if not reading.remaining:
                self._finish(version, reading)

    def _begin(self, version: _Version, progress: _Progress) -> PromptReading | None:
        """Begin to read a prompt behind what is known of it.

        None if all is known, or if another is being read that goes on in the same way: when that is
        done, more is known.
        """
        job, token_T, match = progress.job, progress.token_T, Match()
        first = first_scored(job)
        if not self.config.deterministic:
            # The hidden state before the first token that is scored has to be computed.
            most = len(token_T) if first is None else first - 1
            match = self._prefixes.find(job.version, token_T, most)
        if match.end_H is not None:
            progress.prompt = ReadPrompt(token_T, match.pieces, match.end_H)
            progress.hits = match.length
            return None
        begun_as = (match.node, token_T[match.length : match.length + _ALIKE].tobytes())
        if first is None and any(r.begun_as == begun_as for r in version.reading.values()):
            return None
        reading = PromptReading(job, token_T, match, begun_as)
        version.reading[job.job_id] = reading
        return reading

    def _finish(self, version: _Version, reading: PromptReading) -> None:
        """Give a prompt that is read to its job, and keep it for those that come later."""
        job = reading.job
        del version.reading[job.job_id]
        progress = self._jobs[job.job_id]
        progress.prompt, progress.scores = reading.result(), reading.scores
        progress.hits = reading.hits
        if not self.config.deterministic:
            cut, end_H = reading.keys.cut, progress.prompt.end_H
            self._prefixes.insert(job.version, reading.token_T, cut, end_H)

    def _collect(self, finished: FinishedRow) -> list[tuple[int, SampleResponse]]:
        job = finished.row.job
        progress = self._jobs[job.job_id]
        progress.sequences[finished.row.sample] = finished.sequence
        if len(progress.sequences) < job.num_samples:
            return []
        del self._jobs[job.job_id]
        return [(job.job_id, progress.response)]
