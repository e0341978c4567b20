"""The renderer for every other chat model: the tokenizer's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinker_rl.errors import ConfigError, RequestError, UnsupportedError
from tinker_rl.renderers.base import ParseTermination, Renderer, Rendering, Tokenizer
from tinker_rl.renderers.messages import (
    Message,
    Role,
    TextPart,
    ThinkingPart,
    ThinkingStyle,
    ToolSpec,
    to_template_message,
)

__all__ = ["ChatTemplateRenderer"]

_PROBE = "a"
_OPEN, _CLOSE = "<think>", "</think>"


class ChatTemplateRenderer(Renderer):
    """Whatever `tokenizer.apply_chat_template` gives, token for token.

    A template says nothing of whose a token is, so that is read off its text: an answer begins
    where the generation prompt ends. Tool calls in answers are left as text.
    """

    trainable_roles = frozenset({"assistant"})

    def __init__(self, tokenizer: Tokenizer, name: str = "chat_template") -> None:
        super().__init__(tokenizer, name)
        template: object = tokenizer.chat_template
        if not template:
            raise ConfigError(
                f"get_renderer({name!r}): expected a tokenizer with a chat template; got "
                f"{self.model_name or type(tokenizer).__name__!r} without one. Use 'role_colon', "
                "or set tokenizer.chat_template."
            )
        self._thinking: ThinkingStyle = (
            "separate" if "reasoning_content" in str(template) else "inline"
        )
        probe = [Message(role="user", content=_PROBE)]
        prompt = self._text(probe, None, prompt=True)
        header = prompt.removeprefix(self._text(probe, None))
        self.disables_thinking = _CLOSE in header
        self._opens_thinking = header.rstrip().endswith(_OPEN)
        self._stops = self._stop_tokens(probe)

    def get_stop_sequences(self) -> list[int]:
        """The token that the template closes an answer with, and the end-of-sequence token."""
        return list(self._stops)

    def parse_response(self, response: Sequence[int]) -> tuple[Message, ParseTermination]:
        tokens = [int(token) for token in response]
        end = next((i for i, token in enumerate(tokens) if token in self._stops), len(tokens))
        message = self._message(self._decode(tokens[:end]))
        if end != len(tokens) - 1:
            return message, ParseTermination.MALFORMED
        canonical = tokens[end] == self._stops[0]
        return message, ParseTermination.STOP_SEQUENCE if canonical else ParseTermination.EOS

    def _message(self, text: str) -> Message:
        """Take the reasoning at the start of an answer out of its text."""
        if not self._opens_thinking:
            before, opened, after = text.partition(_OPEN)
            if not opened or before.strip():
                return Message(role="assistant", content=text)
            text = after
        reasoning, _, content = text.partition(_CLOSE)
        if self._thinking == "separate":  # the template frames it with line breaks of its own
            reasoning, content = reasoning.strip("\n"), content.lstrip("\n")
        parts: list[TextPart | ThinkingPart] = []
        if reasoning:
            parts.append(ThinkingPart(type="thinking", thinking=reasoning))
        if content:
            parts.append(TextPart(type="text", text=content))
        return Message(role="assistant", content=parts if reasoning else content)

    def _text(
        self, messages: Sequence[Message], tools: list[ToolSpec] | None, prompt: bool = False
    ) -> str:
        rows = [to_template_message(message, self._thinking) for message in messages]
        try:
            text: Any = self.tokenizer.apply_chat_template(
                rows, tools=tools, add_generation_prompt=prompt, tokenize=False
            )
        except Exception as error:
            raise RequestError(
                f"renderer {self.name!r}: expected a conversation that the tokenizer's chat "
                f"template takes; got {[message['role'] for message in messages]} and its "
                f"{type(error).__name__}: {error}. Change the messages."
            ) from error
        return str(text)

    def _render_prompt(
        self, messages: Sequence[Message], role: Role, tools: list[ToolSpec] | None
    ) -> list[int]:
        if role != "assistant":
            raise UnsupportedError(
                f"build_generation_prompt: expected the role 'assistant' to answer with the "
                f"renderer {self.name!r}; got {role!r}. Use 'role_colon' for other roles."
            )
        return self._encode(self._text(messages, tools, prompt=True))

    def _render_example(
        self, messages: Sequence[Message], trained: frozenset[int], tools: list[ToolSpec] | None
    ) -> Rendering:
        text = self._text(messages, tools)
        encoding: Any = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        tokens, offsets = list(encoding["input_ids"]), list(encoding["offset_mapping"])
        indices, output = [-1] * len(tokens), [False] * len(tokens)
        for index in sorted(trained):
            start, end = self._answer_span(messages, index, text, tools)
            answer = [i for i, (first, _) in enumerate(offsets) if start <= first < end]
            closing = [i for i in answer if tokens[i] in self._stops]
            for position in answer:
                indices[position] = index
                output[position] = not closing or position <= closing[-1]
            if index == len(messages) - 1 and not closing and self._stops:
                # A template may leave the last answer open; the model must learn to end it.
                tokens.append(self._stops[0])
                indices.append(index)
                output.append(True)
        return Rendering(tokens, indices, output)

    def _answer_span(
        self, messages: Sequence[Message], index: int, text: str, tools: list[ToolSpec] | None
    ) -> tuple[int, int]:
        """Where in `text` the answer `index` begins and where its turn ends, in characters."""
        if index == 0:
            raise UnsupportedError(
                f"build_supervised_example: expected a message before the answer with the renderer "
                f"{self.name!r}; got the answer first. Begin with a user message."
            )
        prompt = self._text(messages[:index], tools, prompt=True)
        turn = self._text(messages[: index + 1], tools)
        if not text.startswith(prompt) or not text.startswith(turn):
            raise UnsupportedError(
                f"build_supervised_example: expected a chat template that keeps what came before "
                f"messages[{index}] as it was; got one that rewrites it. Train on "
                "'last_assistant_message', or use build_supervised_examples."
            )
        return len(prompt), len(turn)

    def _stop_tokens(self, probe: list[Message]) -> list[int]:
        """The special token after the content of an answer, then the end-of-sequence token."""
        answered = self._encode(
            self._text([*probe, Message(role="assistant", content=_PROBE)], None)
        )
        special = {*self.tokenizer.all_special_ids, *self.tokenizer.get_added_vocab().values()}
        words = [
            i
            for i, token in enumerate(answered)
            if token not in special and self._decode([token]).strip()
        ]
        end = words[-1] if words else len(answered)
        closing = [token for token in answered[end + 1 :] if token in special][:1]
        eos = [] if self.tokenizer.eos_token_id is None else [int(self.tokenizer.eos_token_id)]
        return list(dict.fromkeys([*closing, *eos]))
