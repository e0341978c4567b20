"""Renderers by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from tinker_rl.errors import UnknownNameError, choices
from tinker_rl.renderers.base import Renderer, Tokenizer
from tinker_rl.renderers.chat_template import ChatTemplateRenderer
from tinker_rl.renderers.library import Family, LibraryRenderer
from tinker_rl.renderers.role_colon import RoleColonRenderer

__all__ = [
    "RENDERER_NAMES",
    "get_registered_renderer_names",
    "get_renderer",
    "is_renderer_registered",
    "register_renderer",
    "unregister_renderer",
]

RendererFactory: TypeAlias = Callable[[Tokenizer, Any], Renderer]

_NO_THINKING = {"enable_thinking": False}

FAMILIES: dict[str, Family] = {
    # Llama 3 writes a tool call as bare JSON, which an answer in JSON looks like too.
    "llama3": Family("llama-3", thinking="none", tool_calls=False),
    "qwen3": Family("qwen3"),
    "qwen3_disable_thinking": Family("qwen3", _NO_THINKING),
    "qwen3_instruct": Family("qwen3", thinking="inline", plain_answers=True),
    "qwen3_vl_instruct": Family("qwen3-vl", thinking="inline"),
    "qwen3_5": Family("qwen3.5", {"enable_thinking": True}),
    "qwen3_5_disable_thinking": Family("qwen3.5", _NO_THINKING),
    "qwen3_8_xhigh_reasoning": Family("qwen3.8", {"enable_thinking": True}),
    "qwen3_8_medium_reasoning": Family(
        "qwen3.8", {"enable_thinking": True, "reasoning_effort": "medium"}
    ),
    "qwen3_8_low_reasoning": Family(
        "qwen3.8", {"enable_thinking": True, "reasoning_effort": "low"}
    ),
    "qwen3_8_disable_thinking": Family("qwen3.8", _NO_THINKING),
    "deepseekv3": Family("deepseek-v3", thinking="none"),
    "gpt_oss_no_sysprompt": Family("gpt-oss", {"use_system_prompt": False}),
    "gpt_oss_low_reasoning": Family("gpt-oss", {"reasoning_effort": "low"}),
    "gpt_oss_medium_reasoning": Family("gpt-oss", {"reasoning_effort": "medium"}),
    "gpt_oss_high_reasoning": Family("gpt-oss", {"reasoning_effort": "high"}),
    "kimi_k2": Family("kimi-k2", thinking="inline"),
    "kimi_k25": Family("kimi-k2.5"),
    "kimi_k25_disable_thinking": Family("kimi-k2.5", {"thinking": False}),
    "kimi_k26": Family("kimi-k2.5"),
    "kimi_k26_disable_thinking": Family("kimi-k2.5", {"thinking": False}),
    "glm5_3_max_reasoning": Family("glm-5.3", {"reasoning_effort": "max"}),
    "glm5_3_high_reasoning": Family("glm-5.3", {"reasoning_effort": "high"}),
    "glm5_3_low_reasoning": Family("glm-5.3", {"reasoning_effort": "low"}),
    "nemotron3": Family("nemotron-3"),
    "nemotron3_disable_thinking": Family("nemotron-3", _NO_THINKING),
    "nemotron3_low_thinking": Family("nemotron-3", {"low_effort": True}),
    "nemotron3_preserve_thinking": Family("nemotron-3", {"truncate_history_thinking": False}),
    "nemotron3_ultra": Family("nemotron-3-ultra"),
    "nemotron3_ultra_disable_thinking": Family("nemotron-3-ultra", _NO_THINKING),
    "nemotron3_ultra_medium_thinking": Family("nemotron-3-ultra", {"medium_effort": True}),
    "nemotron3_ultra_preserve_thinking": Family(
        "nemotron-3-ultra", {"truncate_history_thinking": False}
    ),
    # Formats that Tinker has no name for: the library's own names.
    "deepseek-r1": Family("deepseek-r1", thinking="none"),
    "deepseek-v4": Family("deepseek-v4"),
    "gemma4": Family("gemma4"),
    "glm-4.5": Family("glm-4.5"),
    "glm-5": Family("glm-5"),
    "glm-5.1": Family("glm-5.1"),
    "hy3": Family("hy3"),
    "inkling": Family("inkling"),
    "laguna-m.1": Family("laguna-m.1"),
    "laguna-s-2.1": Family("laguna-s-2.1"),
    "laguna-xs.2": Family("laguna-xs.2"),
    "laguna-xs-2.1": Family("laguna-xs-2.1"),
    "minimax-m2": Family("minimax-m2"),
    "nemotron-3.5": Family("nemotron-3.5"),
    "prime-qwen3": Family("prime-qwen3"),
    "qwen3.6": Family("qwen3.6"),
}
"""Formats that the library has, under Tinker's names where Tinker has one."""

RENDERER_NAMES: tuple[str, ...] = ("role_colon", "chat_template", *FAMILIES)
"""Every name that `get_renderer` knows from the start."""

_registered: dict[str, RendererFactory] = {}


def get_renderer(
    name: str,
    tokenizer: Tokenizer,
    image_processor: Any = None,
    model_name: str | None = None,
) -> Renderer:
    """The renderer of that name.

    Args:
        name: One of `RENDERER_NAMES`, or a registered name. `role_colon` fits every model without
            a chat format, `chat_template` every tokenizer with a chat template.
        tokenizer: The model's transformers tokenizer.
        image_processor: Passed on to registered renderers; the others read text only.
        model_name: Where to load the tokenizer from when unpickled; by default, where it was
            loaded from. One that was made in memory travels in the pickle.
    Raises:
        UnknownNameError: if there is no such renderer.
        ConfigError: if the tokenizer lacks what the format needs.
    """
    if name in _registered:
        renderer = _registered[name](tokenizer, image_processor)
        renderer.name = name
    elif name == "role_colon":
        renderer = RoleColonRenderer(tokenizer, name)
    elif name == "chat_template":
        renderer = ChatTemplateRenderer(tokenizer, name)
    elif name in FAMILIES:
        renderer = LibraryRenderer(tokenizer, name, FAMILIES[name])
    else:
        raise UnknownNameError(
            f"get_renderer: expected the name of a renderer; got {name!r}."
            f"{choices(name, {*RENDERER_NAMES, *_registered})}"
        )
    renderer.model_name = model_name or renderer.model_name
    return renderer


def register_renderer(name: str, factory: RendererFactory) -> None:
    """Make `get_renderer(name, ...)` call `factory(tokenizer, image_processor)`.

    A registered name goes before a built-in one. A process that unpickles such a renderer must
    have registered it too.
    """
    _registered[name] = factory


def unregister_renderer(name: str) -> bool:
    """Forget a registered name; False if it was not registered."""
    return _registered.pop(name, None) is not None


def is_renderer_registered(name: str) -> bool:
    """Whether the name was registered."""
    return name in _registered


def get_registered_renderer_names() -> list[str]:
    """The registered names, without the built-in ones."""
    return list(_registered)
