"""The vLLM sampler: an engine process, its weights and its jobs, through all restarts."""

from __future__ import annotations

import itertools
import logging
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread
from safetensors import SafetensorError

from tinker_rl.engine.samplers.base import AdapterWeights, Finish, SampleJob, unsampled
from tinker_rl.engine.samplers.vllm.build import engine_options
from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig, fitting_rank
from tinker_rl.engine.samplers.vllm.folders import AdapterFolders
from tinker_rl.engine.samplers.vllm.process import ProcessFailure, VllmProcess
from tinker_rl.engine.samplers.vllm.protocol import (
    Answered,
    Cancel,
    Engine,
    Interrupt,
    Load,
    Loaded,
    Refused,
    Report,
    Sample,
    Unload,
)
from tinker_rl.engine.samplers.vllm.translation import check_job, too_late
from tinker_rl.engine.sentinel import not_loaded
from tinker_rl.errors import ConfigError, EngineError, SamplerError, WeightSyncError
from tinker_rl.futures import wait_for
from tinker_rl.types import SampleResponse

__all__ = ["VllmSampler"]

_log = logging.getLogger(__name__)

_CHECK_SECONDS = 1.0
_MOST_ATTEMPTS = 8
"""Engines that may fail under a job before it is suspected to be the reason."""


@dataclass(eq=False)
class _Version:
    load: Load
    rank: int
    expected_hash: str
    first_load: Future[str] = field(default_factory=Future[str])
    """Hash of what was loaded at first; a restart loads it again."""
    is_loaded: bool = False
    """By the engine that lives now."""
    asked_at: float | None = None
    """When that engine was told to load it."""
    error: WeightSyncError | None = None
    """Why that engine does not have it."""
    num_jobs: int = 0
    is_leaving: bool = False


@dataclass(eq=False)
class _Job:
    job: SampleJob
    deadline: float
    attempts: int = 0
    is_given: bool = False
    """To the engine that lives now."""
    is_interrupted: bool = False


class VllmSampler:
    """Keeps one vLLM engine alive, and gives it what it has to know again when it was replaced.

    The engine starts when something is first asked of it. A job is answered once: what an engine
    that failed had not answered is given to the next one, with the same seed.
    """

    def __init__(
        self,
        model: str,
        context: int,
        dtype: str,
        is_cpu: bool,
        config: VllmSamplerConfig,
        finish: Finish,
    ) -> None:
        """
        Args:
            model: Folder of the base model, or its name on the hub.
            context: Most tokens that the model takes.
            dtype: Of the base weights, as torch calls it.
            is_cpu: Whether vLLM computes on the CPU.
        """
        self._model = model
        self._config = config
        self._finish = finish
        self.context = min(context, config.max_model_len or context)
        self._dtype = dtype
        self._is_cpu = is_cpu
        self._folders: AdapterFolders | None = None
        self._numbers = itertools.count(1)
        self._versions: dict[str, _Version] = {}
        self._jobs: dict[int, _Job] = {}
        self._process: VllmProcess | None = None
        self._rank = 0
        """Greatest adapter rank of the engine that lives now; 0: it takes no adapters."""
        self._failures = 0
        """Engines in a row that failed and answered nothing."""
        self._was_open = False
        self._is_rebuilding = False
        self._wanted = anyio.Event()

    @property
    def pids(self) -> list[int]:
        """The processes of the engine that lives now; none while it starts."""
        return self._process.pids if self._process else []

    # ----------------------------------------------------------------------------------- serving

    async def serve(self) -> None:
        """Keep an engine alive, from when one is first needed; cancelled, nothing of it is left."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep_deadlines)
                while True:
                    await self._wanted.wait()
                    await self._live()
        finally:
            if self._folders is not None:
                self._folders.close()

    async def _live(self) -> None:
        """Start an engine, give it all there is to do, and attend to it until it fails."""
        process = VllmProcess(self._config, self._open_folders().roots)
        try:
            engine = self._engine()
            self._rank = engine.max_lora_rank
            _log.info("vLLM starts with %s", self._model)
            await process.start(engine)
            self._process, self._was_open = process, True
            for version in self._versions.values():
                self._tell_to_load(version)
            for job in self._jobs.values():
                self._give(job)
            await process.attend(self._on_report, self._has_work)
        except ProcessFailure as error:
            failure = error
        finally:
            self._process = None
            await process.end()
        self._recover(failure)

    def _engine(self) -> Engine:
        ranks = [version.rank for version in self._versions.values()]
        return engine_options(
            self._config,
            model=self._model,
            context=self.context,
            dtype=self._dtype,
            is_cpu=self._is_cpu,
            rank=max(ranks, default=0),
        )

    def _recover(self, failure: ProcessFailure) -> None:
        """What a failed engine leaves is given to the next one, unless there have been too many."""
        for version in self._versions.values():
            version.is_loaded, version.asked_at, version.error = False, None, None
        for job_id, job in list(self._jobs.items()):
            if job.is_interrupted:
                self._answer(job_id, unsampled(job.job))
        if self._is_rebuilding:
            self._is_rebuilding = False
            for job in self._jobs.values():
                job.is_given = False
            return
        self._failures += 1
        most = self._config.max_restarts if self._was_open else min(1, self._config.max_restarts)
        if self._failures > most:
            self._give_up(failure)
            return
        _log.warning("vLLM is restarted (%d of %d): %s", self._failures, most, failure)
        for job_id, job in list(self._jobs.items()):
            job.attempts += job.is_given
            job.is_given = False
            if job.attempts >= _MOST_ATTEMPTS:
                self._answer(
                    job_id,
                    SamplerError(
                        f"sample: expected vLLM to answer; got {job.attempts} engines that failed "
                        f"while they had this request, the last because {failure}. Ask again with "
                        "fewer samples or tokens at once if this is memory."
                    ),
                )

    def _give_up(self, failure: ProcessFailure) -> None:
        """Fail all that waits. The next request begins anew."""
        error = SamplerError(
            f"vLLM: expected an engine that lives; got {self._failures} in a row that failed "
            f"before they answered anything, the last because {failure}. Mend the cause "
            "(`python -m tinker_rl doctor` looks for it) and ask again: the engine is then started "
            "anew."
        )
        self._failures = 0
        self._wanted = anyio.Event()
        for job_id in list(self._jobs):
            self._answer(job_id, error)
        for version in self._versions.values():
            if not version.first_load.done():
                version.first_load.set_exception(error)

    async def _keep_deadlines(self) -> None:
        while True:
            await anyio.sleep(_CHECK_SECONDS)
            now = anyio.current_time()
            for job_id, job in list(self._jobs.items()):
                if now > job.deadline:
                    self.cancel(job_id, too_late(job.job, self._config))
            for version in list(self._versions.values()):
                asked_at, limit = version.asked_at, self._config.publish_seconds
                if not version.is_loaded and asked_at is not None and now > asked_at + limit:
                    self._not_loaded(version, f"no answer within {limit:.0f} s (publish_seconds)")

    def _has_work(self) -> bool:
        return any(job.is_given for job in self._jobs.values())

    # ---------------------------------------------------------------------------------- versions

    async def load(self, version: str, weights: AdapterWeights) -> str:
        """Write the adapter, and have it loaded; see `Sampler.load`. Cancelled, it is unloaded."""
        known = self._versions.get(version)
        if known is not None:  # it was to leave when its jobs have ended
            known.is_leaving = False
            return await wait_for(known.first_load)
        rank, limit = fitting_rank(weights.rank), self._config.max_lora_rank
        if limit is not None and rank > limit:
            raise ConfigError(
                f"vLLM: expected an adapter of rank {limit} or less (max_lora_rank); got "
                f"{weights.rank}. Give a higher max_lora_rank."
            )
        number = next(self._numbers)
        name, folders = f"{number}-{version}", self._open_folders()
        try:
            folder = await anyio.to_thread.run_sync(folders.write, name, weights)
        except (OSError, SafetensorError) as error:
            raise not_loaded(version, f"files that could not be written ({error})") from error
        load = Load(number, name, str(folder))
        entry = self._versions[version] = _Version(load, rank, weights.content_hash)
        self._wanted.set()
        if self._process is not None:
            self._tell_to_load(entry)
        try:
            return await wait_for(entry.first_load)
        except BaseException:
            self.unload(version)
            raise

    def _open_folders(self) -> AdapterFolders:
        if self._folders is None:
            self._folders = AdapterFolders(self._model)
        return self._folders

    def _tell_to_load(self, version: _Version) -> None:
        assert self._process is not None
        if version.rank > self._rank:
            _log.info("vLLM is restarted to take adapters of rank %d", version.rank)
            self._is_rebuilding = True
            self._process.kill()
        else:
            version.asked_at = anyio.current_time()
            self._process.send(version.load)

    def unload(self, version: str) -> None:
        """Forget a version as soon as no job uses it."""
        entry = self._versions.get(version)
        if entry is not None:
            entry.is_leaving = True
            self._sweep(version, entry)

    def _sweep(self, name: str, version: _Version) -> None:
        if not version.is_leaving or version.num_jobs:
            return
        del self._versions[name]
        if self._process is not None and version.is_loaded:
            self._process.send(Unload(version.load.number))
        self._open_folders().remove(Path(version.load.folder))

    def _not_loaded(self, version: _Version, reason: str) -> None:
        """Its weights cannot be had: neither can what was to be sampled from them."""
        error = version.error = not_loaded(version.load.name, reason)
        version.asked_at = None
        if not version.first_load.done():
            version.first_load.set_exception(error)
        for job_id, job in list(self._jobs.items()):
            if self._versions.get(job.job.version) is version:
                self._answer(job_id, error)

    # -------------------------------------------------------------------------------------- jobs

    def start(self, job: SampleJob) -> None:
        """Queue a job; see `Sampler.start`."""
        check_job(job)
        version = self._versions.get(job.version)
        if version is not None and version.error is not None:
            raise version.error
        deadline = anyio.current_time() + self._config.sample_seconds
        entry = self._jobs[job.job_id] = _Job(job, deadline)
        if version is not None:
            version.num_jobs += 1
        self._wanted.set()
        if self._process is not None:
            self._give(entry)

    def _give(self, entry: _Job) -> None:
        """Hand a job to the engine, if its weights are there."""
        assert self._process is not None
        version = self._versions.get(entry.job.version)
        if version is not None and not version.is_loaded:
            return
        entry.is_given = True
        if entry.job.is_probe:
            entry.deadline = anyio.current_time() + self._config.publish_seconds
        self._process.send(Sample(entry.job, version.load if version else None))

    def cancel(self, job_id: int, error: EngineError | None = None) -> None:
        """Drop a job; with an error, that is its answer."""
        entry = self._jobs.get(job_id)
        if entry is None:
            return
        if self._process is not None and entry.is_given:
            self._process.send(Cancel(job_id))
        self._forget(job_id)
        if error is not None:
            self._finish(job_id, error)

    def interrupt(self, job_id: int) -> None:
        """End a job now; what an engine has of it is its answer."""
        entry = self._jobs.get(job_id)
        if entry is None or entry.is_interrupted:
            return
        entry.is_interrupted = True
        if self._process is not None and entry.is_given:
            self._process.send(Interrupt(job_id))
        else:
            self._answer(job_id, unsampled(entry.job))

    def _forget(self, job_id: int) -> None:
        entry = self._jobs.pop(job_id)
        version = self._versions.get(entry.job.version)
        if version is not None:
            version.num_jobs -= 1
            self._sweep(entry.job.version, version)

    # ----------------------------------------------------------------------------------- reports

    def _on_report(self, report: Report) -> None:
        match report:
            case Answered():
                self._failures = 0
                self._answer(report.job_id, report.response)
            case Refused():
                self._answer(
                    report.job_id,
                    EngineError(
                        f"sample: expected a request that vLLM takes; got {report.error}. Change "
                        "the request."
                    ),
                )
            case Loaded():
                self._on_loaded(report)
            case _:
                raise AssertionError(f"vLLM's process sent a {type(report).__name__}")

    def _answer(self, job_id: int, answer: SampleResponse | Exception) -> None:
        if job_id in self._jobs:  # it may have been cancelled meanwhile
            self._forget(job_id)
            self._finish(job_id, answer)

    def _on_loaded(self, report: Loaded) -> None:
        version = next((v for v in self._versions.values() if v.load.number == report.number), None)
        if version is None:  # it was unloaded while it was loaded
            if self._process is not None and not report.error:
                self._process.send(Unload(report.number))
            return
        if report.error:
            self._not_loaded(version, report.error)
            return
        was_there = version.first_load.done()
        if was_there and report.content_hash != version.expected_hash:
            self._not_loaded(
                version, f"after a restart other weights were read ({report.content_hash})"
            )
            return
        version.is_loaded = True
        if not was_there:
            version.first_load.set_result(report.content_hash)
        for job in self._jobs.values():
            if not job.is_given and self._versions.get(job.job.version) is version:
                self._give(job)
