from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tinker_rl.engine.samplers.base import SampleJob, StopRule
from tinker_rl.engine.samplers.embedded.admission import AdmissionQueue


def job_of(job_id, num_samples, max_tokens):
    return SampleJob(
        job_id=job_id,
        version="",
        prompt=(1,),
        num_samples=num_samples,
        max_tokens=max_tokens,
        seed=0,
        stop=StopRule(),
        temperature=1.0,
        top_k=-1,
        top_p=1.0,
    )


class AdmissionMachine(RuleBasedStateMachine):
    """What waits, and since when, kept beside the queue."""

    def __init__(self):
        super().__init__()
        self.queue = AdmissionQueue()
        self.step = 0
        self.jobs = {}  # id: (job, since)
        self.ungranted = {}  # id: samples that still wait

    @rule(steps=st.integers(1, 30))
    def time_passes(self, steps):
        self.step += steps

    @rule(num_samples=st.integers(1, 5), max_tokens=st.integers(1, 60))
    def push(self, num_samples, max_tokens):
        job = job_of(len(self.jobs), num_samples, max_tokens)
        self.queue.push(job, self.step)
        self.jobs[job.job_id] = (job, self.step)
        self.ungranted[job.job_id] = list(range(num_samples))

    @rule(free_rows=st.integers(1, 8), one_job=st.booleans(), used=st.lists(st.integers(0, 5)))
    def take(self, free_rows, one_job, used):
        waiting = {i: samples for i, samples in self.ungranted.items() if samples}
        grants = self.queue.take(free_rows, one_job=one_job)
        total = sum(len(samples) for samples in waiting.values())
        if one_job:
            assert [g.job.job_id for g in grants] == sorted(waiting)[:1]
            total = len(waiting[grants[0].job.job_id]) if grants else 0
        assert sum(grant.count for grant in grants) == min(free_rows, total)
        for grant in grants:
            samples = self.ungranted[grant.job.job_id]
            granted = list(range(grant.first, grant.first + grant.count))
            assert granted
            assert samples[: grant.count] == granted  # in order, each exactly once
            del samples[: grant.count]
        if not one_job:
            self.check_order(grants)
        for grant, count in zip(grants, used, strict=False):
            if count < grant.count:  # did not fit
                self.queue.put_back(grant, count)
                again = list(range(grant.first + count, grant.first + grant.count))
                self.ungranted[grant.job.job_id] = again + self.ungranted[grant.job.job_id]

    def check_order(self, grants):
        """Nobody is overtaken by a job that came later than by as much as it is longer."""
        for grant in grants:
            job, since = self.jobs[grant.job.job_id]
            for other_id, samples in self.ungranted.items():
                other, other_since = self.jobs[other_id]
                if samples and other_id != job.job_id:
                    assert since - other_since <= job.max_tokens - other.max_tokens

    @precondition(lambda self: any(self.ungranted.values()))
    @rule(data=st.data())
    def remove(self, data):
        job_id = data.draw(st.sampled_from([i for i, s in self.ungranted.items() if s]))
        self.queue.remove(job_id)
        self.queue.remove(job_id)
        self.ungranted[job_id] = []

    @invariant()
    def the_counts_are_those_of_what_waits(self):
        assert len(self.queue) == sum(1 for samples in self.ungranted.values() if samples)
        assert self.queue.rows == sum(map(len, self.ungranted.values()))


AdmissionMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None
)
TestAdmissionQueue = AdmissionMachine.TestCase


def test_no_job_starves_under_a_stream_of_longer_ones():
    queue = AdmissionQueue()
    queue.push(job_of(0, 1, 4), 0)
    for step in range(1, 100):
        queue.push(job_of(step, 1, 50), step)
        (grant,) = queue.take(1)
        if grant.job.job_id == 0:
            break
    assert step == 46  # older by as much as it is shorter


def test_a_job_that_does_not_fit_grows_older_all_the_same():
    queue = AdmissionQueue()
    queue.push(job_of(0, 1, 4), 0)
    for step in range(1, 100):
        queue.push(job_of(step, 1, 50), step)
        first, *others = queue.take(2)
        if first.job.job_id == 0:
            break
        for grant in others:
            queue.put_back(grant, 0)
    assert step == 46
