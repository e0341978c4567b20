"""Small tokenizers in the shape of the published ones, with chat templates after their formats."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import tinker_rl
from tinker_rl.renderers import Renderer, get_renderer

TINY = Path(tinker_rl.__file__).parent / "assets" / "tiny"

# The pattern that Qwen and Llama 3 split words with: line breaks join the signs before them, and
# runs of line breaks are one piece, so text on both sides of a turn's boundary can merge.
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEXT = """
What is the sum of seven and eight? The answer is fifteen.

You are a helpful assistant. The user asks a question, and the assistant answers it.


def add(left: int, right: int) -> int:
    return left + right

system user assistant tool User: Assistant: System: it's, don't, we'll  two  spaces   three
"""

QWEN3_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
QWEN3_WORDS = (
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)
LLAMA3_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
)
_FAMILIES = """
[gMASK] <sop> <|system|> <|user|> <|assistant|> <|observation|> <arg_key> </arg_key> <arg_value>
</arg_value> <|start|> <|end|> <|return|> <|call|> <|channel|> <|message|> <|constrain|> ]~!b[ ]~b]
[e~[ <minimax:tool_call> </minimax:tool_call> <|im_user|> <|im_assistant|> <|im_system|>
<|im_middle|> <|tool_calls_section_begin|> <|tool_calls_section_end|> <|tool_call_begin|>
<|tool_call_argument_begin|> <|tool_call_end|> <|media_begin|> <|media_content|> <|media_pad|>
<|media_end|> <|message_user|> <|message_model|> <|message_system|> <|message_tool|>
<|content_text|> <|content_thinking|> <|content_image|> <|content_audio_input|> <|content_xml|>
<|content_invoke_tool_json|> <|content_invoke_tool_text|> <|content_model_end_sampling|>
<|end_message|> <|audio_end|> <|unused_200054|> <|unused_200053|> <image> 〈|EOS|〉 <assistant>
</assistant> <bos> <eos> <|turn> <turn|> <|channel> <channel|> <|think|> <|tool> <tool|>
<|tool_call> <tool_call|> <|tool_response> <tool_response|> <|image> <|image|> <image|> ｜DSML｜
<｜begin▁of▁sentence｜> <｜end▁of▁sentence｜> <｜User｜> <｜Assistant｜> <｜latest_reminder｜>
<｜action｜> <｜query｜> <｜authority｜> <｜domain｜> <｜title｜> <｜read_url｜>
<｜tool▁calls▁begin｜> <｜tool▁calls▁end｜> <｜tool▁call▁begin｜> <｜tool▁call▁end｜> <｜tool▁sep｜>
<｜tool▁outputs▁begin｜> <｜tool▁outputs▁end｜> <｜tool▁output▁begin｜> <｜tool▁output▁end｜>
<｜hy_begin_of_sentence:opensource｜> <｜hy_eos:opensource｜> <｜hy_User:opensource｜>
<｜hy_Assistant:opensource｜> <｜reasoning_mode:opensource｜> <think:opensource> </think:opensource>
<tool_calls:opensource> </tool_calls:opensource> <tool_call:opensource> </tool_call:opensource>
<tool_sep:opensource> <arg_key:opensource> </arg_key:opensource> <arg_value:opensource>
</arg_value:opensource> <tool_responses:opensource> </tool_responses:opensource>
<tool_response:opensource> </tool_response:opensource>
"""
FAMILY_TOKENS = (*QWEN3_TOKENS, *LLAMA3_TOKENS, *_FAMILIES.split())
"""Every added token that some renderer of the library looks up, so that all can be made."""

CHATML = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""

QWEN3_HYBRID = """\
{%- set ns = namespace(last_query=messages | length - 1) %}
{%- for message in messages %}
{%- if message.role == 'user' %}{%- set ns.last_query = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
{%- set content = message.content %}
{%- if message.role != 'assistant' %}
{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- else %}
{%- set reasoning = message.reasoning_content or '' %}
{{- '<|im_start|>assistant\\n' }}
{%- if loop.index0 > ns.last_query and (loop.last or reasoning) %}
{{- '<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
{%- else %}
{{- content }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and not enable_thinking %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""

LLAMA3 = """\
{{- '<|begin_of_text|>' }}
{%- if messages[0].role == 'system' %}
{%- set system = messages[0].content | trim %}{%- set rest = messages[1:] %}
{%- else %}
{%- set system = '' %}{%- set rest = messages %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{{- 'Cutting Knowledge Date: December 2023\\nToday Date: 26 Jul 2024\\n\\n' }}
{{- system + '<|eot_id|>' }}
{%- for message in rest %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
{{- message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""

# After Gemma's format: the assistant is called model, turns must alternate, and the end-of-sequence
# token is not what closes a turn.
TURNS = """\
{{- bos_token }}
{%- for message in messages %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('turns must alternate') }}
{%- endif %}
{{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
{{- message.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}"""

# Closes an answer only when another turn follows it.
OPEN = """\
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{{- '<|im_start|>' + message.content + ('' if loop.last else '<|im_end|>') }}
{%- else %}
{{- '<|im_start|>' + message.role + ' ' + message.content + '<|im_end|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>' }}{%- endif %}"""


def byte_level_tokenizer(
    special: tuple[str, ...],
    words: tuple[str, ...] = (),
    template: str | None = None,
    **names: str,
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of a few hundred merges, with the given added tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_TEXT, "\n\n\n\n", " \n \n\n"] * 3, trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in words])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **names
    )
    fast.chat_template = template
    return fast


@lru_cache
def make_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """One of the tokenizers that the tests share: they only read it."""
    match kind:
        case "tiny":
            return AutoTokenizer.from_pretrained(TINY)
        case "qwen3_instruct":
            return byte_level_tokenizer(QWEN3_TOKENS, QWEN3_WORDS, CHATML, eos_token="<|im_end|>")
        case "qwen3":
            return byte_level_tokenizer(
                QWEN3_TOKENS, QWEN3_WORDS, QWEN3_HYBRID, eos_token="<|im_end|>"
            )
        case "llama3":
            return byte_level_tokenizer(
                LLAMA3_TOKENS, (), LLAMA3, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>"
            )
        case "turns":
            return byte_level_tokenizer(
                ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
                (),
                TURNS,
                bos_token="<bos>",
                eos_token="<eos>",
            )
        case "open":
            return byte_level_tokenizer(QWEN3_TOKENS, (), OPEN, eos_token="<|im_end|>")
        case "base":
            return byte_level_tokenizer(("<|endoftext|>",), (), None, eos_token="<|endoftext|>")
        case "families":
            return byte_level_tokenizer(FAMILY_TOKENS, QWEN3_WORDS, None, eos_token="<|im_end|>")
        case _:
            raise ValueError(kind)


CHARACTERS = "aZx09 \t\n\r.,:+={}\"'\\é☃\u0301\u2028😀٣语"
FRAGMENTS = st.sampled_from(
    [
        "\n",
        "\n\n",
        " ",
        "  ",
        "What is",
        " 12",
        "+7",
        "= 19.",
        "assistant",
        "User:",
        "é",
        "☃",
        "e\u0301",
    ]
)
TEXT = st.lists(FRAGMENTS | st.text(CHARACTERS, max_size=4), max_size=6).map("".join)
"""Short texts with much white space, and what turns are made of, in them."""


def conversation_strategy(
    last: str | None = None, answers: st.SearchStrategy[str] = TEXT, system: bool = True
) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Conversations of one to six turns of users and assistants, with or without a system turn.

    `last` is the role of the last turn; a conversation that ends with an assistant's has another
    turn before it.
    """

    @st.composite
    def draw_conversation(draw: st.DrawFn) -> list[dict[str, Any]]:
        roles = draw(st.lists(st.sampled_from(["user", "assistant"]), max_size=4))
        if system and draw(st.booleans()):
            roles = ["system", *roles]
        if last == "assistant":
            roles = [*(roles or []), *([] if "user" in roles else ["user"]), "assistant"]
        elif last is not None or not roles:
            roles = [*roles, last or "user"]
        return [
            {"role": role, "content": draw(answers if role == "assistant" else TEXT)}
            for role in roles
        ]

    return draw_conversation()


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the shipped model."""
    return make_tokenizer("tiny")


@pytest.fixture(scope="session")
def tokenizers() -> Callable[[str], PreTrainedTokenizerFast]:
    """Gives a tokenizer by its shape: tiny, qwen3, qwen3_instruct, llama3, base or families."""
    return make_tokenizer


@lru_cache
def make_renderer(name: str, shape: str) -> Renderer:
    """A renderer that the tests share."""
    return get_renderer(name, make_tokenizer(shape))


@pytest.fixture(scope="session")
def renderer_of() -> Callable[[str, str], Renderer]:
    """Gives a renderer by its name and the shape of its tokenizer."""
    return make_renderer


@pytest.fixture(scope="session")
def texts() -> st.SearchStrategy[str]:
    """Contents of messages."""
    return TEXT


@pytest.fixture(scope="session")
def conversations() -> Callable[..., st.SearchStrategy[list[dict[str, Any]]]]:
    """Gives a strategy of conversations."""
    return conversation_strategy
