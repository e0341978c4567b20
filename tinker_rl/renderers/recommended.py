"""Which renderer fits a model."""

from __future__ import annotations

import re

from tinker_rl.errors import RequestError
from tinker_rl.renderers.base import Tokenizer
from tinker_rl.renderers.chat_template import ChatTemplateRenderer
from tinker_rl.renderers.messages import Message
from tinker_rl.renderers.registry import get_renderer
from tinker_rl.types import ModelInput

__all__ = [
    "get_recommended_renderer_name",
    "get_recommended_renderer_names",
    "renders_as_template",
]

_BASE_MODEL = re.compile(r"-base\b|llama-3(\.\d)?-\d+b$")

_BY_NAME: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"^tiny$", ("qwen3_instruct",)),
    (r"qwen3-vl-.*instruct", ("qwen3_vl_instruct",)),
    (r"qwen3-\d.*instruct-2507", ("qwen3_instruct",)),
    (r"qwen3-\d.*thinking-2507", ("chat_template",)),
    (r"qwen3-\d", ("qwen3", "qwen3_disable_thinking")),
    (r"qwen3\.[56]-", ("qwen3_5", "qwen3_5_disable_thinking")),
    (
        r"qwen3\.8-",
        (
            "qwen3_8_xhigh_reasoning",
            "qwen3_8_disable_thinking",
            "qwen3_8_medium_reasoning",
            "qwen3_8_low_reasoning",
        ),
    ),
    (r"llama-3\.[1-3]-.*instruct", ("llama3",)),
    (r"deepseek-r1(-\d+)?$", ("deepseek-r1",)),
    (r"deepseek-v3$", ("deepseekv3",)),
    (r"deepseek-v4-flash-0731", ("deepseek-v4",)),
    (r"gpt-oss-", ("gpt_oss_no_sysprompt", "gpt_oss_medium_reasoning")),
    (r"kimi-k2-instruct", ("kimi_k2",)),
    (r"kimi-k2\.5", ("kimi_k25", "kimi_k25_disable_thinking")),
    (r"kimi-k2\.6", ("kimi_k26", "kimi_k26_disable_thinking")),
    (
        r"glm-5\.3",
        ("glm5_3_max_reasoning", "glm5_3_low_reasoning", "glm5_3_high_reasoning"),
    ),
    (r"glm-5\.1", ("glm-5.1",)),
    (r"glm-5(-fp8)?$|glm-4\.7-flash", ("glm-5",)),
    (r"glm-4\.5-air", ("glm-4.5",)),
    (r"nemotron-3-ultra", ("nemotron3_ultra", "nemotron3_ultra_disable_thinking")),
    (r"nemotron-3\.5-", ("nemotron-3.5",)),
    (r"nemotron-3-", ("nemotron3", "nemotron3_disable_thinking")),
    (r"gemma-4-.*-it", ("gemma4",)),
    (r"minimax-m2(\.5)?$", ("minimax-m2",)),
    (r"(instruct|chat|-it)\b", ("chat_template",)),
)
"""The first pattern found in a model's lower-cased name, without its organisation, decides."""

_BY_TYPE: dict[str, tuple[str, ...]] = {
    "qwen3": ("qwen3_instruct", "qwen3"),
    "qwen3_moe": ("qwen3_instruct", "qwen3"),
    "llama": ("llama3",),
    "deepseek_v3": ("deepseekv3", "deepseek-r1"),
    "glm4_moe": ("glm-4.5", "glm-5"),
    "minimax_m2": ("minimax-m2",),
    "nemotron_h": ("nemotron3", "nemotron3_ultra"),
}
"""By `model_type` of a transformers config: formats to try on a model of unknown name."""

_QUESTION = Message(role="user", content="What is 2 + 2?")
_ANSWER = Message(role="assistant", content="It is 4.")
_SYSTEM = Message(role="system", content="Answer in one sentence.")
_PROBES = ([_QUESTION], [_SYSTEM, _QUESTION], [_QUESTION, _ANSWER, _QUESTION])


def get_recommended_renderer_names(
    model_name: str, model_type: str | None = None, has_chat_template: bool | None = None
) -> list[str]:
    """Renderers that fit a model, best first, as far as its name tells.

    Args:
        model_name: Hub name, or folder; a `:checkpoint` at its end is ignored.
        model_type: `model_type` of its transformers config, where known.
        has_chat_template: Whether its tokenizer has a chat template, where known.
    """
    name = re.split(r"[/\\]", model_name.rstrip("/\\"))[-1].split(":")[0].lower()
    if has_chat_template is False or _BASE_MODEL.search(name):
        return ["role_colon"]
    for pattern, names in _BY_NAME:
        if re.search(pattern, name):
            return list(names)
    if has_chat_template is None:
        return ["role_colon"]
    return ["chat_template", *_BY_TYPE.get(model_type or "", ())]


def get_recommended_renderer_name(
    model_name: str,
    model_type: str | None = None,
    has_chat_template: bool | None = None,
    tokenizer: Tokenizer | None = None,
) -> str:
    """The renderer that fits a model best.

    With its tokenizer, that is the first candidate that gives the very tokens of the tokenizer's
    chat template, and `chat_template` itself if none does: a fine-tuned model may keep its
    family's name and have a format of its own.

    Args:
        model_name: Hub name, or folder.
        model_type: `model_type` of its transformers config, where known.
        has_chat_template: Whether its tokenizer has a chat template; read off the tokenizer if
            that is given.
        tokenizer: The model's tokenizer, where it is at hand.
    """
    if tokenizer is not None:
        has_chat_template = bool(tokenizer.chat_template)
    names = get_recommended_renderer_names(model_name, model_type, has_chat_template)
    if tokenizer is None or names == ["role_colon"]:
        return names[0]
    families = [name for name in names if name != "chat_template"]
    fitting = (name for name in families if renders_as_template(name, tokenizer))
    return next(fitting, "chat_template")


def renders_as_template(name: str, tokenizer: Tokenizer) -> bool:
    """Whether a renderer gives the very tokens of the tokenizer's chat template.

    Tried on a few conversations, without tools; False if the tokenizer lacks a token of the
    renderer's format.
    """
    try:
        renderer = get_renderer(name, tokenizer)
        template = ChatTemplateRenderer(tokenizer)
        return all(
            renderer.build_generation_prompt(probe) == template.build_generation_prompt(probe)
            and _tokens(renderer.build_supervised_example([*probe, _ANSWER]))
            == _tokens(template.build_supervised_example([*probe, _ANSWER]))
            for probe in _PROBES
        )
    except RequestError:
        return False


def _tokens(example: tuple[ModelInput, object]) -> list[int]:
    return example[0].to_ints()
