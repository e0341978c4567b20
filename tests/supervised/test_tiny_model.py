"""The shipped `tiny`: small, lossless, and speaking the Qwen3 family's chat format."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from renderers import Qwen3Renderer
from transformers import PreTrainedTokenizerFast

from tinker_rl.supervised.tiny_model import (
    CONTENT_TOKENS,
    CONTEXT_LENGTH,
    TURN_TOKENS,
    VOCABULARY_SIZE,
    build_model,
    build_tokenizer,
)

any_text = st.text(st.characters(exclude_categories=["Cs"]))  # a lone surrogate is not UTF-8
plain_text = any_text.filter(
    lambda text: not any(token in text for token in TURN_TOKENS + CONTENT_TOKENS)
)


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def test_the_folder_is_small_and_float32(tiny_folder, tiny_model):
    assert sum(file.stat().st_size for file in tiny_folder.iterdir()) < 8_000_000
    assert 500_000 <= tiny_model.num_parameters() < 2_000_000
    assert {parameter.dtype for parameter in tiny_model.parameters()} == {torch.float32}
    assert tiny_model.config.model_type == "qwen3"
    assert tiny_model.config.max_position_embeddings == CONTEXT_LENGTH
    assert (
        (tiny_folder / "README.md").read_text(encoding="utf-8").startswith("---\nlicense: apache")
    )


def test_the_model_and_its_tokenizer_have_one_vocabulary(tiny_model, tiny_tokenizer):
    assert len(tiny_tokenizer) == tiny_model.config.vocab_size == VOCABULARY_SIZE
    assert sorted(tiny_tokenizer.get_vocab().values()) == list(range(VOCABULARY_SIZE))
    assert tiny_model.config.eos_token_id == tiny_tokenizer.eos_token_id
    assert tiny_model.generation_config.eos_token_id == tiny_tokenizer.eos_token_id
    assert tiny_model.generation_config.pad_token_id == tiny_tokenizer.pad_token_id


@settings(deadline=None)
@given(text=any_text | st.text("0123456789+-*/=? {}\\boxed\r\n\t"))
@pytest.mark.parametrize("special", ["", "<|im_end|>", "<think>"])
def test_any_text_comes_back_unchanged(tiny_tokenizer, special, text):
    text = text + special + text
    assert tiny_tokenizer.decode(encode(tiny_tokenizer, text)) == text


@settings(deadline=None)
@given(digits=st.text("0123456789", min_size=1), before=plain_text, after=plain_text)
def test_every_ascii_digit_is_its_own_token(tiny_tokenizer, digits, before, after):
    text = before + digits + after
    tokens = tiny_tokenizer.convert_ids_to_tokens(encode(tiny_tokenizer, text))
    spelled = [token for token in tokens if any(digit in token for digit in "0123456789")]
    assert spelled == [character for character in text if character in "0123456789"]


@pytest.mark.parametrize("token", TURN_TOKENS + CONTENT_TOKENS)
def test_special_tokens_are_single_ids(tiny_tokenizer, token):
    tokens = encode(tiny_tokenizer, f"a{token}b")
    assert tokens.count(tiny_tokenizer.convert_tokens_to_ids(token)) == 1
    assert encode(tiny_tokenizer, token) == [tiny_tokenizer.convert_tokens_to_ids(token)]
    kept = tiny_tokenizer.decode(tokens, skip_special_tokens=True)
    assert kept == ("ab" if token in TURN_TOKENS else f"a{token}b")


def test_the_tokenizer_file_asks_for_no_padding(tiny_folder):
    settings = json.loads((tiny_folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert settings["padding"] is None
    assert settings["truncation"] is None
    assert settings["normalizer"] is None  # it would change the text


def test_a_turn_ends_with_im_end_and_rows_are_padded_with_endoftext(tiny_tokenizer):
    assert tiny_tokenizer.eos_token == "<|im_end|>"
    assert tiny_tokenizer.pad_token == "<|endoftext|>"
    rows = tiny_tokenizer(["1", "12"], padding=True)["input_ids"]
    assert rows[0] == [tiny_tokenizer.pad_token_id, *encode(tiny_tokenizer, "1")]


messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant"]), "content": plain_text}
    ),
    min_size=1,  # transformers refuses an empty conversation
    max_size=4,
)


@settings(deadline=None)
@given(messages=messages, add_generation_prompt=st.booleans())
def test_the_chat_template_is_plain_chatml(tiny_tokenizer, messages, add_generation_prompt):
    expected = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    if add_generation_prompt:
        expected += "<|im_start|>assistant\n"
    rendered = tiny_tokenizer.apply_chat_template(
        messages, add_generation_prompt=add_generation_prompt, tokenize=False
    )
    assert rendered == expected


def test_the_qwen3_renderer_accepts_the_tokenizer(tiny_tokenizer):
    renderer = Qwen3Renderer(tiny_tokenizer)
    chat = [{"role": "user", "content": "17+25=?"}]
    template = tiny_tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert renderer.render_ids(chat, add_generation_prompt=True) == encode(tiny_tokenizer, template)


def test_too_few_texts_for_the_vocabulary_are_refused():
    with pytest.raises(ValueError, match=r"build_tokenizer: expected .* 1024; got \d+ .*\. Pass"):
        build_tokenizer(["17+25=?"])


def test_the_recipe_still_builds_the_shipped_architecture(tiny_model, tiny_tokenizer):
    fresh = build_model(tiny_tokenizer)
    assert {name: value.shape for name, value in fresh.state_dict().items()} == {
        name: value.shape for name, value in tiny_model.state_dict().items()
    }
    assert fresh.config.rope_parameters == tiny_model.config.rope_parameters
