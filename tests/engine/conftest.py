"""Models, learners and samplers that the tests of the engine share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import settings

from tinker_rl import Datum, ModelInput, ServiceClient
from tinker_rl.engine.base_model import context_length, load_base_model
from tinker_rl.engine.learner import Learner
from tinker_rl.engine.local import EngineOptions
from tinker_rl.engine.samplers.base import SampleJob, StopRule
from tinker_rl.engine.samplers.embedded import EmbeddedSampler, EmbeddedSamplerConfig, Replica
from tinker_rl.tokenizers import get_tokenizer

# Torch and files take their time, on cores that others use too.
settings.register_profile("engine", parent=settings.default, deadline=None)
settings.load_profile("engine")

torch.set_num_threads(1)  # the models are small: more threads only wait for each other


@pytest.fixture(params=["tiny", "llama"])
def base_model(request) -> str:
    """Each architecture in turn."""
    return "tiny" if request.param == "tiny" else request.getfixturevalue("llama")


@pytest.fixture(scope="session")
def make_learner() -> Callable[..., Learner]:
    """Makes a learner over base weights of its own."""

    def make(base_model: str = "tiny", token_budget: int | None = None) -> Learner:
        model = load_base_model(base_model, torch.device("cpu"), torch.float32)
        learner = Learner(model, base_model, context_length(base_model, model))
        if token_budget is not None:
            learner.token_budget = token_budget
        return learner

    return make


@pytest.fixture(scope="module")
def learner(make_learner) -> Learner:
    """One for the tests of a file."""
    return make_learner()


@pytest.fixture(scope="session")
def run() -> Callable:
    """Does all steps of a forward_backward and gives its result."""

    def run(steps):
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    return run


@pytest.fixture(scope="session")
def take_gradients() -> Callable:
    """The gradients that wait for a step; they are gone from the adapter."""

    def take(learner, name="model:0"):
        adapter = learner.adapter(name)
        gradients, adapter.gradients = adapter.gradients, {}
        return gradients

    return take


@pytest.fixture(scope="session")
def make_data() -> Callable[..., list[Datum]]:
    """Random datums of the given lengths, with the inputs of every loss."""

    def make(lengths, seed=0, keys=("weights",), vocab=1024) -> list[Datum]:
        rng = np.random.default_rng(seed)
        values = {
            "weights": lambda n: rng.choice([0.0, 1.0, -0.5], n),
            "advantages": lambda n: rng.normal(size=n),
            "logprobs": lambda n: -8 * rng.random(n),
            "sequence_ratio_mask": lambda n: rng.integers(0, 2, n),
        }
        return [
            Datum(
                ModelInput.from_ints(rng.integers(0, vocab, length)),
                {
                    "target_tokens": rng.integers(0, vocab, length),
                    **{key: values[key](length).astype(np.float32) for key in keys},
                },
            )
            for length in lengths
        ]

    return make


@pytest.fixture(scope="session")
def make_sampler() -> Callable[..., EmbeddedSampler]:
    """Makes an embedded sampler over a base model."""
    replicas: dict[str, Replica] = {}

    def make(base_model: str = "tiny", **options) -> EmbeddedSampler:
        if base_model not in replicas:
            model = load_base_model(base_model, torch.device("cpu"), torch.float32)
            replicas[base_model] = Replica(model)
        decode = get_tokenizer(base_model).decode
        return EmbeddedSampler(replicas[base_model], decode, EmbeddedSamplerConfig(**options))

    return make


@pytest.fixture(scope="session")
def make_job() -> Callable[..., SampleJob]:
    """A job with settings that most tests do not care about."""

    def make(job_id: int, prompt=(1, 2, 3), **fields) -> SampleJob:
        defaults = {
            "version": "",
            "num_samples": 1,
            "max_tokens": 8,
            "seed": job_id,
            "stop": StopRule(),
            "temperature": 1.0,
            "top_k": -1,
            "top_p": 1.0,
        }
        return SampleJob(job_id=job_id, prompt=tuple(prompt), **{**defaults, **fields})

    return make


@pytest.fixture(scope="session")
def drain() -> Callable:
    """Works until a sampler is idle; the responses by job."""

    def drain(sampler: EmbeddedSampler) -> dict:
        done = {}
        while not sampler.idle:
            for job_id, response in sampler.burst(0.02):
                assert job_id not in done
                done[job_id] = response
        return done

    return drain


@pytest.fixture(scope="session")
def service():
    """One engine for all tests that need no other."""
    options = EngineOptions(sampler="embedded")  # vLLM would start for a quarter of a minute
    with ServiceClient(engine_options=options) as client:
        yield client


@pytest.fixture(scope="session")
def num_ties() -> Callable:
    """Compares samples of the same seeds, and counts the draws that rounding decided otherwise.

    A random number may fall so near the border of two tokens (neighbours in the vocabulary), or two
    tokens may be so equally likely, that the last bits of a logprob say which is taken. What comes
    after it is another sample.
    """

    def num_ties(got, expected) -> int:
        found = 0
        for one, other in zip(got, expected, strict=True):
            pairs = zip(one.tokens, other.tokens, strict=False)
            same = next((n for n, (a, b) in enumerate(pairs) if a != b), None)
            np.testing.assert_allclose(one.logprobs[:same], other.logprobs[:same], atol=1e-4)
            if same is None:
                assert (one.stop_reason, one.tokens) == (other.stop_reason, other.tokens)
                continue
            found += 1
            neighbours = abs(one.tokens[same] - other.tokens[same]) == 1
            assert neighbours or abs(one.logprobs[same] - other.logprobs[same]) < 1e-4
        return found

    return num_ties
