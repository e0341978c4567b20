"""Renderers for model families, over the `renderers` library.

The library writes the tokens and says whose they are; here that becomes weights, and what it
parses becomes a message.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import msgspec

from tinker_rl.errors import ConfigError, RequestError, UnsupportedError
from tinker_rl.renderers.base import ParseTermination, Renderer, Rendering, Tokenizer
from tinker_rl.renderers.messages import (
    Message,
    Role,
    TextPart,
    ThinkingPart,
    ThinkingStyle,
    ToolCall,
    ToolSpec,
    UnparsedToolCall,
    get_text_content,
    to_template_message,
)

if TYPE_CHECKING:
    import renderers as library

__all__ = ["Family", "LibraryRenderer"]

logger = logging.getLogger(__name__)

_END_OF_DOCUMENT = frozenset({"<|endoftext|>", "<|end_of_text|>"})
"""Tokens that end a document; a format that closes turns otherwise takes them as an end too."""


class Family(msgspec.Struct, frozen=True):
    """A format of the library, as one of our renderer names wants it."""

    library_name: str
    options: Mapping[str, Any] = {}
    """Options of the library's renderer."""
    thinking: ThinkingStyle = "separate"
    tool_calls: bool = True
    """Whether tool calls can be told from other text in an answer."""
    plain_answers: bool = False
    """Whether an answer is its text and nothing else, as Qwen3 Instruct writes it."""


class LibraryRenderer(Renderer):
    """A model family's chat format."""

    def __init__(self, tokenizer: Tokenizer, name: str, family: Family) -> None:
        super().__init__(tokenizer, name)
        self.family = family
        self._library = _create(tokenizer, name, family)
        self._stops = list(self._library.get_stop_token_ids())
        self._header = self._generation_header()
        self.has_extension_property = bool(self._library.is_prefix_stable)
        self.disables_thinking = "</think" in self._decode(self._header)
        written = self._written(" a \n")
        self._keeps_start, self._keeps_end = written == " a \n", written.endswith("a \n")

    def get_stop_sequences(self) -> list[int]:
        """Token ids that end an answer, the canonical one first."""
        return list(self._stops)

    def parse_response(self, response: Sequence[int]) -> tuple[Message, ParseTermination]:
        tokens = [int(token) for token in response]
        end = next((i for i, token in enumerate(tokens) if token in self._stops), len(tokens))
        return self._parse(tokens[:end]), self._termination(tokens, end)

    def _termination(self, tokens: list[int], end: int) -> ParseTermination:
        if end != len(tokens) - 1:
            return ParseTermination.MALFORMED
        of_document = self._decode(tokens[end:]) in _END_OF_DOCUMENT and len(self._stops) > 1
        return ParseTermination.EOS if of_document else ParseTermination.STOP_SEQUENCE

    def _parse(self, tokens: list[int]) -> Message:
        text = self._decode(tokens)
        try:
            parsed = self._library.parse_response(tokens, prompt_ids=self._header)
        except (ValueError, RecursionError):  # numbers too long for Python, brackets too deep
            if not self.family.tool_calls:
                return Message(role="assistant", content=text)
            unread = UnparsedToolCall(raw_text=text, error="invalid_json")
            return Message(role="assistant", content="", unparsed_tool_calls=[unread])
        calls = parsed.tool_calls if self.family.tool_calls else []
        if not calls and self.family.thinking != "separate":
            return _inline_message(text, self.family.thinking)
        content = self._untrimmed(parsed.content, text)
        message = Message(role="assistant", content=content)
        if parsed.reasoning_content:
            thinking = ThinkingPart(type="thinking", thinking=parsed.reasoning_content)
            rest = [TextPart(type="text", text=content)] if content else []
            message["content"] = [thinking, *rest]
        errors = [_error_of(call) for call in calls]
        good = [call for call, error in zip(calls, errors, strict=True) if not error]
        if good:
            message["tool_calls"] = [_tool_call(call) for call in good]
        bad = [
            UnparsedToolCall(raw_text=call.raw, error=error)
            for call, error in zip(calls, errors, strict=True)
            if error
        ]
        if bad:
            message["unparsed_tool_calls"] = bad
        return message

    def _untrimmed(self, content: str, text: str) -> str:
        """The content with the white space that the library takes off, where the format has it."""
        if not self._keeps_end:
            return content.strip()
        if self._keeps_start and content.strip() == text.strip():
            return text
        if content and text.rstrip().endswith(content):
            return content + text[len(text.rstrip()) :]
        return content

    def _render(
        self, messages: Sequence[Message], tools: list[ToolSpec] | None, prompt: bool
    ) -> library.RenderedTokens:
        rows = [to_template_message(message, self.family.thinking) for message in messages]
        if self.family.plain_answers:
            for row in rows:
                if row["role"] == "assistant":
                    # Else the library would look for reasoning in the text, and take it out.
                    row["reasoning_content"] = ""
        try:
            rendered = self._library.render(
                cast(Any, rows), tools=cast(Any, tools), add_generation_prompt=prompt
            )
        except Exception as error:
            raise RequestError(
                f"renderer {self.name!r}: expected a conversation that the format can hold; got "
                f"{[message['role'] for message in messages]} and the library's "
                f"{type(error).__name__}: {error}. Change the messages."
            ) from error
        lost = set(range(len(messages))) - set(rendered.message_indices)
        for index in sorted(lost):
            if get_text_content(messages[index]).strip():
                raise UnsupportedError(
                    f"renderer {self.name!r}: expected messages that all have a place in the "
                    f"format; got messages[{index}] of role {messages[index]['role']!r}, which it "
                    "would drop. Merge it into another message."
                )
        return rendered

    def _render_prompt(
        self, messages: Sequence[Message], role: Role, tools: list[ToolSpec] | None
    ) -> list[int]:
        if role != "assistant":
            raise UnsupportedError(
                f"build_generation_prompt: expected the role 'assistant' to answer with the "
                f"renderer {self.name!r}; got {role!r}. Use 'role_colon' for other roles."
            )
        return list(self._render(messages, tools, prompt=True).token_ids)

    def _render_example(
        self, messages: Sequence[Message], trained: frozenset[int], tools: list[ToolSpec] | None
    ) -> Rendering:
        rendered = self._render(messages, tools, prompt=False)
        tokens, indices = list(rendered.token_ids), list(rendered.message_indices)
        sampled, content = rendered.sampled_mask, rendered.is_content
        has_masks = len(tokens) == len(sampled) == len(content)
        if trained and not has_masks:
            raise UnsupportedError(
                f"build_supervised_example: expected a tokenizer that gives character offsets; got "
                f"{type(self.tokenizer).__name__}, which does not. Load the fast tokenizer."
            )
        history = [
            i for i in trained if messages[i]["role"] == "assistant" and i < len(messages) - 1
        ]
        if history and not self.has_extension_property:
            warn_of_history(self.name)
        output = [False] * len(tokens)
        for index, span in enumerate(rendered.message_token_spans()):
            if span is None or not has_masks:
                continue
            if messages[index]["role"] == "assistant":
                if index in trained and not self._follows_prompt(tokens, span[0]):
                    warn_of_other_start(self.name)
                written = self._assistant_output(tokens, sampled, span)
            else:
                written = self._other_output(tokens, content, span)
            for position in written:
                output[position] = indices[position] == index
        rendering = Rendering(tokens, indices, output)
        return self._closed(rendering) if messages[-1]["role"] == "assistant" else rendering

    def _closed(self, rendering: Rendering) -> Rendering:
        """With a stop token at its end: some formats close a turn with the next one's header."""
        end = max((i + 1 for i, written in enumerate(rendering.output_mask) if written), default=0)
        if not end or rendering.tokens[end - 1] in self._stops:
            return rendering
        indices = rendering.message_indices[:end]
        return Rendering(
            [*rendering.tokens[:end], self._stops[0]],
            [*indices, indices[-1]],
            [*rendering.output_mask[:end], True],
        )

    def _assistant_output(
        self, tokens: list[int], sampled: list[bool], span: tuple[int, int]
    ) -> Sequence[int]:
        """From the end of the generation prompt to the end of the turn."""
        start, end = span
        written = [i for i in range(start, end) if sampled[i]]
        if written and self._follows_prompt(tokens, start):
            return range(start + len(self._header), written[-1] + 1)
        return written

    def _follows_prompt(self, tokens: list[int], start: int) -> bool:
        return bool(self._header) and tokens[start : start + len(self._header)] == self._header

    def _other_output(
        self, tokens: list[int], content: list[bool], span: tuple[int, int]
    ) -> Sequence[int]:
        """The content and the token right after it, where that ends a turn."""
        start, end = span
        written = [i for i in range(start, end) if content[i]]
        after = written[-1] + 1 if written else start + 1
        closing = next((i for i in range(after, end) if tokens[i] in self._stops), None)
        return written if closing is None else [*written, closing]

    def _generation_header(self) -> list[int]:
        """What the generation prompt adds to a conversation."""
        probe = [Message(role="user", content="a")]
        closed = list(self._render(probe, None, prompt=False).token_ids)
        prompt = list(self._render(probe, None, prompt=True).token_ids)
        return prompt[len(closed) :] if prompt[: len(closed)] == closed else []

    def _written(self, content: str) -> str:
        """What the format makes of an answer with that content."""
        answer = Message(role="assistant", content=content)
        probe = [Message(role="user", content="a"), answer]
        rendering = self._render_example(probe, frozenset(), None)
        owners = zip(rendering.tokens, rendering.output_mask, strict=True)
        return self._decode([t for t, output in owners if output and t not in self._stops])

    def _extend(
        self,
        prompt: list[int],
        action: list[int],
        new_messages: Sequence[Message],
        tools: list[ToolSpec] | None,
    ) -> list[int] | None:
        rows = [to_template_message(message, self.family.thinking) for message in new_messages]
        bridged = self._library.bridge_to_next_turn(
            prompt, action, cast(Any, rows), tools=cast(Any, tools)
        )
        tokens = None if bridged is None else list(bridged.token_ids)
        whole = [*prompt, *action]
        # The library cuts an action that went on after its end; we promise every sampled token.
        return tokens if tokens is not None and tokens[: len(whole)] == whole else None


@cache
def warn_of_history(name: str) -> None:
    """Say once a process that turns are trained as history that were not sampled as such."""
    logger.warning(
        "build_supervised_example: the renderer %r may write a turn differently once it is "
        "history, so earlier turns may be trained after other prompts than they are sampled from; "
        "build_supervised_examples gives each turn its own.",
        name,
    )


@cache
def warn_of_other_start(name: str) -> None:
    """Say once a process that an answer does not follow from its generation prompt."""
    logger.warning(
        "build_supervised_example: the format of %r begins an answer otherwise than its "
        "generation prompt does, mostly for want of reasoning: it is trained after another prompt "
        "than it is sampled from.",
        name,
    )


def _create(tokenizer: Tokenizer, name: str, family: Family) -> library.Renderer:
    from renderers import config_from_name, create_renderer

    try:
        if family.plain_answers:
            from tinker_rl.renderers.qwen3_instruct import Qwen3InstructFormat

            return Qwen3InstructFormat(tokenizer)
        config_class: Any = type(config_from_name(family.library_name))
        return create_renderer(tokenizer, config_class(**family.options))
    except Exception as error:
        raise ConfigError(
            f"get_renderer({name!r}): expected a tokenizer of the family; got "
            f"{getattr(tokenizer, 'name_or_path', '') or type(tokenizer).__name__!r} and the "
            f"library's {type(error).__name__}: {error}. Use get_recommended_renderer_name to "
            "find one that fits."
        ) from error


def _inline_message(text: str, thinking: ThinkingStyle) -> Message:
    """A message whose text may begin with reasoning between tags; spelled out, it is `text`."""
    tagged = re.fullmatch(r"<think>(.*?)</think>(.*)", text, re.DOTALL)
    if thinking == "none" or tagged is None or not tagged[1]:
        return Message(role="assistant", content=text)
    parts: list[TextPart | ThinkingPart] = [ThinkingPart(type="thinking", thinking=tagged[1])]
    if tagged[2]:
        parts.append(TextPart(type="text", text=tagged[2]))
    return Message(role="assistant", content=parts)


def _error_of(call: library.ParsedToolCall) -> str:
    """What is wrong with a call; empty if nothing is."""
    if call.status != "ok":
        return str(call.status)
    # The library takes any JSON for a name.
    return "" if isinstance(call.name, str | None) else "name_is_no_text"  # pyright: ignore[reportUnnecessaryIsInstance]


def _tool_call(call: library.ParsedToolCall) -> ToolCall:
    arguments = call.arguments
    spelled = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    return ToolCall(
        function=ToolCall.FunctionBody(name=call.name or "", arguments=spelled), id=call.id
    )
