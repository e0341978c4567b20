"""What a renderer does: a conversation to tokens and weights, sampled tokens back to a message."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from tinker_rl.errors import ConfigError, RequestError, UnsupportedError, choices
from tinker_rl.renderers.messages import (
    ROLES,
    Message,
    Role,
    ToolSpec,
    check_messages,
    has_thinking,
)
from tinker_rl.renderers.train_on_what import (
    ASSISTANT_MODES,
    TrainOnWhat,
    as_train_on_what,
    trained_messages,
)
from tinker_rl.types import ModelInput

__all__ = ["ParseTermination", "Renderer", "Rendering", "Tokenizer"]

Tokenizer: TypeAlias = Any
"""A transformers tokenizer (`PreTrainedTokenizerBase`), whose own annotations are of no help."""
Example: TypeAlias = tuple[ModelInput, npt.NDArray[np.float32]]


class ParseTermination(StrEnum):
    """How a sampled answer ended. True where it ended well, so it also serves as a success flag."""

    STOP_SEQUENCE = "stop_sequence"
    """With the stop sequence of the format."""
    EOS = "eos"
    """With the end-of-document token, which a format with a stop sequence of its own also takes."""
    MALFORMED = "malformed"
    """Cut short, or gone on after its end."""

    @property
    def is_clean(self) -> bool:
        """Whether the answer is complete."""
        return self is not ParseTermination.MALFORMED

    @property
    def is_stop_sequence(self) -> bool:
        """Whether the answer ended exactly as the format asks."""
        return self is ParseTermination.STOP_SEQUENCE

    def __bool__(self) -> bool:
        return self.is_clean


class Rendering(msgspec.Struct, frozen=True):
    """A conversation in tokens, and whose each of them is."""

    tokens: list[int]
    message_indices: list[int]
    """Which message each token belongs to; -1: none of them."""
    output_mask: list[bool]
    """True on what the author of a message writes: the content and the token that ends it."""


class Renderer(ABC):
    """Turns the messages of a conversation into tokens, and sampled tokens into a message.

    Renderers are made by `get_renderer`. They hold no state that a call changes, so threads may
    share one; pickled, they carry their name and where their tokenizer was loaded from.
    """

    roles: frozenset[str] = ROLES
    """Roles that a message may have."""
    trainable_roles: frozenset[str] = ROLES
    """Roles whose output can be told from its header."""
    has_extension_property: bool = False
    """Whether each generation prompt of a conversation is a prefix of the later ones, so that an
    episode of several turns is one sequence."""
    disables_thinking: bool = False
    """Whether the generation prompt ends with a closed block of reasoning."""

    def __init__(self, tokenizer: Tokenizer, name: str) -> None:
        self.tokenizer = tokenizer
        self.name = name
        """What `get_renderer` knows it by."""
        self.model_name: str | None = getattr(tokenizer, "name_or_path", None) or None
        """Hub name or folder that the tokenizer is loaded from again when unpickled."""

    @abstractmethod
    def get_stop_sequences(self) -> list[str] | list[int]:
        """What ends an answer: the `stop` of the sampling parameters."""

    @abstractmethod
    def parse_response(self, response: Sequence[int]) -> tuple[Message, ParseTermination]:
        """Read sampled tokens as a message of the assistant.

        Args:
            response: Token ids as sampled, the stop sequence included.
        Returns:
            The message, as far as it goes, and how it ended: false if it was cut short.
        """

    @abstractmethod
    def _render_prompt(
        self, messages: Sequence[Message], role: Role, tools: list[ToolSpec] | None
    ) -> list[int]:
        """Tokens up to where `role` begins to write."""

    @abstractmethod
    def _render_example(
        self, messages: Sequence[Message], trained: frozenset[int], tools: list[ToolSpec] | None
    ) -> Rendering:
        """The whole conversation; the output mask must be exact on the messages in `trained`."""

    def build_generation_prompt(
        self,
        messages: Sequence[Message],
        role: Role = "assistant",
        prefill: str | None = None,
        *,
        tools: list[ToolSpec] | None = None,
    ) -> ModelInput:
        """The prompt from which `role` answers `messages`.

        Args:
            messages: The conversation so far, oldest first.
            role: Who answers.
            prefill: Text that the answer begins with; the model goes on from it.
            tools: Tools that the model may call.
        Raises:
            RequestError: if the messages are malformed, or do not fit the format.
        """
        check_messages("build_generation_prompt", messages, self.roles)
        if role not in self.roles:
            raise RequestError(
                f"build_generation_prompt: expected a role of this format; got {role!r}."
                f"{choices(str(role), self.roles)}"
            )
        tokens = self._render_prompt(messages, role, tools)
        return ModelInput.from_ints([*tokens, *self._encode(prefill)] if prefill else tokens)

    def build_supervised_example(
        self,
        messages: Sequence[Message],
        train_on_what: TrainOnWhat = TrainOnWhat.LAST_ASSISTANT_MESSAGE,
        *,
        tools: list[ToolSpec] | None = None,
    ) -> Example:
        """A conversation to train on: its tokens, and a weight for each.

        The sequence begins with the generation prompt of its last turn and ends with the token
        that closes it. Headers have weight 0, except with `ALL_TOKENS`.

        Returns:
            The tokens, and their weights: 0 or 1, float32, shape [T]. Not shifted: weight i is
            that of predicting token i.
        Raises:
            RequestError: if the messages are malformed, or none of them is to be trained on.
            UnsupportedError: if the format cannot tell what is to be trained on from headers.
        """
        check_messages("build_supervised_example", messages, self.roles)
        train_on_what = as_train_on_what(train_on_what)
        trained = trained_messages(messages, train_on_what)
        if train_on_what == TrainOnWhat.ALL_TOKENS:
            tokens = _without_tail(self._render_example(messages, frozenset(), tools)).tokens
            return ModelInput.from_ints(tokens), np.ones(len(tokens), np.float32)
        self._check_trained(messages, trained)
        rendering = _without_tail(self._render_example(messages, trained, tools))
        owners = zip(rendering.message_indices, rendering.output_mask, strict=True)
        weights = np.array([index in trained and output for index, output in owners], np.float32)
        return ModelInput.from_ints(rendering.tokens), weights

    def build_supervised_examples(
        self,
        messages: Sequence[Message],
        train_on_what: TrainOnWhat = TrainOnWhat.LAST_ASSISTANT_TURN,
        *,
        tools: list[ToolSpec] | None = None,
    ) -> list[Example]:
        """The examples of a conversation in which every trained turn follows its own prompt.

        One, if the format has the extension property; else one for each trained turn, since such
        a format writes a turn differently once it is history.

        Raises:
            RequestError: as `build_supervised_example` does.
            UnsupportedError: if turns other than the assistant's are asked of such a format.
        """
        train_on_what = as_train_on_what(train_on_what)
        if self.has_extension_property:
            return [self.build_supervised_example(messages, train_on_what, tools=tools)]
        if train_on_what not in ASSISTANT_MODES:
            raise UnsupportedError(
                f"build_supervised_examples: expected a train_on_what about assistant messages, "
                f"for {self.name!r} may rewrite turns that became history; got "
                f"{str(train_on_what)!r}. Use build_supervised_example."
            )
        check_messages("build_supervised_examples", messages, self.roles)
        last = TrainOnWhat.LAST_ASSISTANT_MESSAGE
        return [
            self.build_supervised_example(messages[: index + 1], last, tools=tools)
            for index in sorted(trained_messages(messages, train_on_what))
        ]

    def extend_generation_prompt(
        self,
        prompt: ModelInput,
        action: Sequence[int],
        new_messages: Sequence[Message],
        *,
        tools: list[ToolSpec] | None = None,
    ) -> ModelInput | None:
        """The next prompt of an episode, with the sampled tokens kept as they are.

        Rendering the parsed answer anew may spell it with other tokens; this does not. None where
        the format cannot promise that: render the whole conversation then.

        Args:
            prompt: What the last answer was sampled from.
            action: Its tokens, the stop sequence included.
            new_messages: What came since, none of it from the assistant.
            tools: Tools that the model may call.
        """
        check_messages("extend_generation_prompt", new_messages, self.roles)
        sampled = [int(token) for token in action]
        tokens = self._extend(prompt.to_ints(), sampled, new_messages, tools)
        return None if tokens is None else ModelInput.from_ints(tokens)

    def _extend(
        self,
        prompt: list[int],
        action: list[int],
        new_messages: Sequence[Message],
        tools: list[ToolSpec] | None,
    ) -> list[int] | None:
        del prompt, action, new_messages, tools

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _decode(self, tokens: Sequence[int]) -> str:
        """The text of the tokens as it is: special tokens kept, no space tidied."""
        return str(
            self.tokenizer.decode(
                list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )

    def _check_trained(self, messages: Sequence[Message], trained: frozenset[int]) -> None:
        where = "build_supervised_example"
        foreign = {messages[i]["role"] for i in trained} - self.trainable_roles
        if foreign:
            raise UnsupportedError(
                f"{where}: expected to train on the roles {sorted(self.trainable_roles)} with the "
                f"renderer {self.name!r}; got {sorted(foreign)}, whose content it cannot tell from "
                "its header. Use a renderer made for the model's family."
            )
        if self.disables_thinking and any(
            messages[i]["role"] == "assistant" and has_thinking(messages[i]) for i in trained
        ):
            raise RequestError(
                f"{where}: expected answers without reasoning for {self.name!r}, whose prompt says "
                "that there is none; got some. Drop it, or use the family's thinking renderer."
            )

    def __reduce__(self) -> tuple[Callable[..., Renderer], tuple[Any, ...]]:
        tokenizer = None if self.model_name else self.tokenizer
        return _rebuild, (self.name, self.model_name, tokenizer)


def _without_tail(rendering: Rendering) -> Rendering:
    """Without what a template writes after the last message has ended: nobody samples it."""
    tokens, indices, output = rendering.tokens, rendering.message_indices, rendering.output_mask
    end = max((i + 1 for i, written in enumerate(output) if written), default=0)
    if not end or any(index != indices[end - 1] for index in indices[end:]):
        return rendering  # the last message has no output to end at
    return Rendering(tokens[:end], indices[:end], output[:end])


@lru_cache(maxsize=8)
def _load_tokenizer(model_name: str) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model_name)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"Renderer (unpickled): expected a tokenizer at {model_name!r}, where the pickled one "
            f"was loaded from; got {error}. Make it reachable from this machine."
        ) from error


def _rebuild(name: str, model_name: str | None, tokenizer: Tokenizer | None) -> Renderer:
    from tinker_rl.renderers.registry import get_renderer

    if model_name is not None:
        tokenizer = _load_tokenizer(model_name)
    assert tokenizer is not None
    return get_renderer(name, tokenizer, model_name=model_name)
