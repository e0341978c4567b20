"""Which renderer a model gets."""

import copy

import pytest

from tinker_rl.renderers import (
    RENDERER_NAMES,
    get_recommended_renderer_name,
    get_recommended_renderer_names,
    renders_as_template,
)
from tinker_rl.renderers.recommended import _BY_NAME, _BY_TYPE


@pytest.mark.parametrize(
    ("model_name", "renderer"),
    [
        ("tiny", "qwen3_instruct"),
        ("meta-llama/Llama-3.1-8B", "role_colon"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3"),
        ("meta-llama/Llama-3.2-1B", "role_colon"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama3"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "chat_template"),
        ("Qwen/Qwen3-8B", "qwen3"),
        ("Qwen/Qwen3-8B-Base", "role_colon"),
        ("Qwen/Qwen3-30B-A3B", "qwen3"),
        ("Qwen/Qwen3-4B-Instruct-2507", "qwen3_instruct"),
        ("Qwen/Qwen3-4B-Thinking-2507", "chat_template"),
        ("Qwen/Qwen3-VL-30B-A3B-Instruct", "qwen3_vl_instruct"),
        ("Qwen/Qwen3.5-4B", "qwen3_5"),
        ("Qwen/Qwen3.8-27B", "qwen3_8_xhigh_reasoning"),
        ("openai/gpt-oss-20b", "gpt_oss_no_sysprompt"),
        ("deepseek-ai/DeepSeek-V3", "deepseekv3"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "role_colon"),
        ("moonshotai/Kimi-K2.5", "kimi_k25"),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "nemotron3"),
        ("someone/other-7b-instruct", "chat_template"),
        ("someone/other-7b-it", "chat_template"),
        ("someone/other-7b", "role_colon"),
        ("/models/Qwen3-8B/", "qwen3"),
        ("Qwen/Qwen3-8B:step-30", "qwen3"),
    ],
)
def test_a_name_tells_the_renderer(model_name, renderer):
    assert get_recommended_renderer_name(model_name) == renderer


def test_every_recommended_name_exists():
    named = {name for _, names in _BY_NAME for name in names}
    assert named | {name for names in _BY_TYPE.values() for name in names} <= set(RENDERER_NAMES)


def test_whether_there_is_a_template_decides_for_a_folder_of_unknown_name():
    assert get_recommended_renderer_name("./run7", "llama", True) == "chat_template"
    assert get_recommended_renderer_name("./run7", "llama", False) == "role_colon"
    assert get_recommended_renderer_names("./run7", "llama", True) == ["chat_template", "llama3"]


@pytest.mark.parametrize(
    ("shape", "model_type", "renderer"),
    [
        ("tiny", "qwen3", "qwen3_instruct"),
        ("qwen3", "qwen3", "qwen3"),
        ("llama3", "llama", "llama3"),
        ("turns", "gemma", "chat_template"),
        ("turns", "llama", "chat_template"),
        ("base", "llama", "role_colon"),
    ],
)
def test_with_a_tokenizer_its_template_decides(shape, model_type, renderer, tokenizers):
    name = get_recommended_renderer_name("./run7", model_type, tokenizer=tokenizers(shape))
    assert name == renderer


def test_a_fine_tuned_model_with_a_format_of_its_own_gets_its_template(tokenizers):
    assert renders_as_template("qwen3", tokenizers("qwen3"))
    changed = copy.deepcopy(tokenizers("qwen3"))
    changed.chat_template = changed.chat_template.replace("<think>\\n", "<think>")
    assert not renders_as_template("qwen3", changed)
    assert get_recommended_renderer_name("org/Qwen3-8B", tokenizer=changed) == "chat_template"
