"""The tokenizer and the architecture of the shipped `tiny` model."""

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY_SIZE = 1024
"""Tokens, the added ones included."""
CONTEXT_LENGTH = 2048
"""Tokens that a sequence may have."""

PAD_TOKEN = "<|endoftext|>"
END_TOKEN = "<|im_end|>"
"""Ends a turn, and thereby an answer."""
TURN_TOKENS = (PAD_TOKEN, "<|im_start|>", END_TOKEN)
"""Tokens of the chat format itself, left out when decoding with `skip_special_tokens=True`."""
CONTENT_TOKENS = (
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
)
"""Tokens inside a turn that the Qwen3 family's renderers look up; kept when decoding."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML and nothing more: no default system message, no block of thoughts."""

# Words with the space or sign before them, runs of signs, runs of white space. One digit is one
# token, so that a number is spelled the same wherever it stands.
_PIECES = Regex(
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on `texts`: it spells any UTF-8 text and loses nothing.

    The same texts give the same tokenizer.

    Args:
        texts: What the vocabulary is chosen for; some thousand words at the least.
    Raises:
        ValueError: if the texts are too few to fill the vocabulary.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_PIECES, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(TURN_TOKENS) - len(CONTENT_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in TURN_TOKENS])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in CONTENT_TOKENS])
    if tokenizer.get_vocab_size() != VOCABULARY_SIZE:
        raise ValueError(
            f"build_tokenizer: expected texts that fill a vocabulary of {VOCABULARY_SIZE}; "
            f"got {tokenizer.get_vocab_size()} tokens out of them. Pass more text."
        )
    chat_tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_TOKEN,
        pad_token=PAD_TOKEN,
        padding_side="left",
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
    )
    chat_tokenizer.chat_template = CHAT_TEMPLATE
    return chat_tokenizer


def build_model(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A Qwen3 of 0.8 million parameters, float32, weights drawn from torch's global generator."""
    config = Qwen3Config(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        initializer_range=0.08,  # about 1 / sqrt(hidden_size): 0.02 learns sums much later
        tie_word_embeddings=True,
        pad_token_id=token_id(tokenizer, PAD_TOKEN),
        eos_token_id=token_id(tokenizer, END_TOKEN),
        dtype="float32",
    )
    return Qwen3ForCausalLM(config)


def token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """The id of a token that the vocabulary is known to have, such as `END_TOKEN`."""
    ids = tokenizer.convert_tokens_to_ids([token])
    assert isinstance(ids, list)
    return ids[0]
