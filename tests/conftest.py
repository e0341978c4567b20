"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on a network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(params=["trio", "asyncio"])
def backend(request: pytest.FixtureRequest) -> str:
    """The event loops that everything asynchronous must run on."""
    return request.param


@pytest.fixture(autouse=True, scope="session")
def _private_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test writes into the user's own store."""
    os.environ["TINKER_RL_HOME"] = str(tmp_path_factory.mktemp("tinker_rl_home"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets: TINKER_RL_DATA, or `../shared/data` beside the project."""
    places = [
        Path(os.environ["TINKER_RL_DATA"]) if os.environ.get("TINKER_RL_DATA") else None,
        Path(__file__).parents[2] / "shared" / "data",
    ]
    for place in places:
        if place is not None and place.is_dir():
            return place
    pytest.skip("real data sets: neither TINKER_RL_DATA nor ../shared/data is there")


@pytest.fixture(scope="session")
def save_model(tmp_path_factory: pytest.TempPathFactory):
    """Writes a folder with a small random model of a configuration, and `tiny`'s tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    from tinker_rl.lineup import model_path
    from tinker_rl.tokenizers import get_tokenizer

    def save(config, name="model") -> str:
        folder = tmp_path_factory.mktemp(name)
        for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            (folder / file).write_bytes((Path(model_path("tiny")) / file).read_bytes())
        config.vocab_size = 1024
        config.eos_token_id = get_tokenizer("tiny").eos_token_id
        config.initializer_range = 0.2
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        return str(folder)

    return save


@pytest.fixture(scope="session")
def llama(save_model) -> str:
    """A folder with a small random Llama; its unembedding is not tied."""
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
    )
    return save_model(config, "llama")
