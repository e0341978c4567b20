"""Renderers that the tests of environments share."""

import pytest

from tinker_rl.renderers import Renderer, get_renderer
from tinker_rl.tokenizers import get_tokenizer


@pytest.fixture(scope="session")
def renderer() -> Renderer:
    """The real tokenizer of `tiny`, in its chat format."""
    return get_renderer("qwen3_instruct", get_tokenizer("tiny"))


@pytest.fixture(scope="session")
def encode(renderer):
    """Tokens of an answer that ends as the format asks."""

    def tokens(text, end="<|im_end|>"):
        return renderer.tokenizer.encode(text + end, add_special_tokens=False)

    return tokens
