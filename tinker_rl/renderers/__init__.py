"""Chat messages to tokens, and sampled tokens back to messages."""

from tinker_rl.renderers.base import ParseTermination, Renderer, Tokenizer
from tinker_rl.renderers.chat_template import ChatTemplateRenderer
from tinker_rl.renderers.library import LibraryRenderer
from tinker_rl.renderers.messages import (
    Content,
    ContentPart,
    Message,
    Role,
    TextPart,
    ThinkingPart,
    ToolCall,
    ToolSpec,
    UnparsedToolCall,
    ensure_text,
    format_content_as_string,
    get_text_content,
)
from tinker_rl.renderers.recommended import (
    get_recommended_renderer_name,
    get_recommended_renderer_names,
    renders_as_template,
)
from tinker_rl.renderers.registry import (
    RENDERER_NAMES,
    get_registered_renderer_names,
    get_renderer,
    is_renderer_registered,
    register_renderer,
    unregister_renderer,
)
from tinker_rl.renderers.role_colon import RoleColonRenderer
from tinker_rl.renderers.train_on_what import TrainOnWhat

__all__ = [
    "RENDERER_NAMES",
    "ChatTemplateRenderer",
    "Content",
    "ContentPart",
    "LibraryRenderer",
    "Message",
    "ParseTermination",
    "Renderer",
    "Role",
    "RoleColonRenderer",
    "TextPart",
    "ThinkingPart",
    "Tokenizer",
    "ToolCall",
    "ToolSpec",
    "TrainOnWhat",
    "UnparsedToolCall",
    "ensure_text",
    "format_content_as_string",
    "get_recommended_renderer_name",
    "get_recommended_renderer_names",
    "get_registered_renderer_names",
    "get_renderer",
    "get_text_content",
    "is_renderer_registered",
    "register_renderer",
    "renders_as_template",
    "unregister_renderer",
]
