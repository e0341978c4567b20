"""Which waiting job is sampled next. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tinker_rl.engine.samplers.base import SampleJob

__all__ = ["AdmissionQueue", "Grant"]


@dataclass
class _Waiting:
    job: SampleJob
    since: int
    next_sample: int = 0


@dataclass(frozen=True)
class Grant:
    """Samples `first` to `first + count` of a job may start."""

    job: SampleJob
    first: int
    count: int
    since: int = 0
    """Decoding step at which the job was queued."""


class AdmissionQueue:
    """Longest job first, with ageing.

    A batch is done when its longest row is, so long jobs must start early. Every decoding step
    that a job waits counts like one token more of `max_tokens`, so none starves: a job is
    overtaken only by jobs that came at most as many steps later as they are longer.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, _Waiting] = {}

    def __len__(self) -> int:
        """Jobs that still have samples to start."""
        return len(self._waiting)

    @property
    def rows(self) -> int:
        """Samples that wait."""
        return sum(w.job.num_samples - w.next_sample for w in self._waiting.values())

    def push(self, job: SampleJob, step: int) -> None:
        """Queue a job at decoding step `step`."""
        self._waiting[job.job_id] = _Waiting(job, step)

    def put_back(self, grant: Grant, used: int) -> None:
        """Return the samples of a grant after the first `used`; they wait on, no younger."""
        waiting = self._waiting.setdefault(grant.job.job_id, _Waiting(grant.job, grant.since))
        waiting.next_sample = grant.first + used

    def remove(self, job_id: int) -> None:
        """Forget a job."""
        self._waiting.pop(job_id, None)

    def take(self, free_rows: int, *, one_job: bool = False) -> list[Grant]:
        """Grant up to `free_rows` samples, the most urgent jobs first.

        Args:
            one_job: Grant the samples of the first job alone, all of them or as many as fit.
        """
        order = sorted(
            self._waiting.values(),
            # probes; then the least since - max_tokens; then the order of arrival
            key=lambda w: (not w.job.is_probe, w.since - w.job.max_tokens, w.job.job_id),
        )
        if one_job:
            order = sorted(order, key=lambda w: (not w.job.is_probe, w.job.job_id))[:1]
        grants: list[Grant] = []
        for waiting in order:
            if free_rows == 0:
                break
            count = min(free_rows, waiting.job.num_samples - waiting.next_sample)
            grants.append(Grant(waiting.job, waiting.next_sample, count, waiting.since))
            waiting.next_sample += count
            free_rows -= count
            if waiting.next_sample == waiting.job.num_samples:
                del self._waiting[waiting.job.job_id]
        return grants
