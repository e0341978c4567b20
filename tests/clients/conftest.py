"""Clients of one engine, and data for them, that the tests share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import settings

from tinker_rl import Datum, ModelInput, ServiceClient
from tinker_rl.engine.local import EngineOptions

settings.register_profile("clients", parent=settings.default, deadline=None)
settings.load_profile("clients")
torch.set_num_threads(1)  # the models are small: more threads only wait for each other


@pytest.fixture(scope="session")
def service():
    """One engine for all tests that need no other."""
    options = EngineOptions(sampler="embedded")  # vLLM would start for a quarter of a minute
    with ServiceClient(user_metadata={"who": "tests"}, engine_options=options) as client:
        yield client


@pytest.fixture(scope="session")
def make_data():
    """Random datums of the given lengths."""

    def make(lengths=(9, 6), seed=0):
        rng = np.random.default_rng(seed)
        return [
            Datum(
                ModelInput.from_ints(rng.integers(0, 1024, length)),
                {
                    "target_tokens": rng.integers(0, 1024, length),
                    "weights": np.ones(length, np.float32),
                },
            )
            for length in lengths
        ]

    return make


@pytest.fixture(scope="session")
def training(service):
    """A model that tests may train; its numbers matter to none of them."""
    return service.create_lora_training_client("tiny", rank=4, seed=0)


@pytest.fixture(scope="session")
def sampling(service):
    """The base model."""
    return service.create_sampling_client(base_model="tiny")
