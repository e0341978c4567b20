"""The shipped `tiny` model, loaded once."""

from pathlib import Path

import pytest
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

import tinker_rl

TINY = Path(tinker_rl.__file__).parent / "assets" / "tiny"


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    return TINY


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(TINY)


@pytest.fixture(scope="session")
def tiny_model() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(TINY).eval()
