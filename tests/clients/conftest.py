"""Clients of one engine, and data for them, that the tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from transformers import LlamaConfig, LlamaForCausalLM

from tinker_rl import Datum, ModelInput, ServiceClient
from tinker_rl.lineup import model_path
from tinker_rl.tokenizers import get_tokenizer

settings.register_profile("clients", parent=settings.default, deadline=None)
settings.load_profile("clients")
torch.set_num_threads(1)  # the models are small: more threads only wait for each other


@pytest.fixture(scope="session")
def service():
    """One engine for all tests that need no other."""
    with ServiceClient(user_metadata={"who": "tests"}) as client:
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


@pytest.fixture(scope="session")
def llama(tmp_path_factory) -> str:
    """A folder with a small random Llama (its unembedding is not tied) and `tiny`'s tokenizer."""
    folder = tmp_path_factory.mktemp("llama")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((Path(model_path("tiny")) / name).read_bytes())
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=get_tokenizer("tiny").eos_token_id,
        initializer_range=0.2,
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)
