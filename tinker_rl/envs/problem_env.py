"""One question, one answer, a check: the commonest environment."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinker_rl.completers.types import StopCondition
from tinker_rl.envs.answers import over
from tinker_rl.envs.types import (
    Action,
    ActionExtra,
    Env,
    EnvGroupBuilder,
    Observation,
    StepResult,
    StopReason,
)
from tinker_rl.renderers import (
    Message,
    Renderer,
    format_content_as_string,
    get_renderer,
    get_text_content,
)
from tinker_rl.tokenizers import get_tokenizer
from tinker_rl.types import ModelInput

__all__ = ["ProblemEnv", "ProblemGroupBuilder", "load_renderer"]


class ProblemEnv(Env):
    """A question that is answered once.

    The reward is `format_coef * (format_ok - 1) + correct`: 1 for a right answer, less
    `format_coef` for one that is not in the asked format. An answer that was cut off, or did not
    end as the renderer's format asks, is not in format.
    """

    _is_over = False

    def __init__(
        self,
        renderer: Renderer,
        convo_prefix: list[Message] | None = None,
        format_coef: float = 0.1,
        require_stop_sequence_for_format: bool = True,
    ) -> None:
        """Set up one episode.

        Args:
            renderer: Turns the conversation into tokens and the answer into text.
            convo_prefix: Messages before the question, such as worked examples.
            format_coef: What a wrong format costs, in reward units.
            require_stop_sequence_for_format: Whether an answer must end with the stop sequence to
                be in format; if False, an end-of-document token will do.
        """
        self.renderer = renderer
        self.convo_prefix = list(convo_prefix or [])
        self.format_coef = format_coef
        self.require_stop_sequence_for_format = require_stop_sequence_for_format

    @abstractmethod
    def get_question(self) -> str:
        """The text of the user's turn."""

    @abstractmethod
    def check_answer(self, sample_str: str) -> bool:
        """Whether the answer is right. What it raises is a failure of the environment.

        A number is taken as it is, as reward and as the metric `correct`: for partial credit, give
        one from 0 to 1.
        """

    @abstractmethod
    def check_format(self, sample_str: str) -> bool:
        """Whether the answer is in the format that was asked for."""

    @abstractmethod
    def get_reference_answer(self) -> str:
        """The right answer, for the logs."""

    @property
    def stop_condition(self) -> StopCondition:
        """What ends the answer."""
        return self.renderer.get_stop_sequences()

    async def initial_observation(self) -> tuple[Observation, StopCondition]:
        self._is_over = False
        question = Message(role="user", content=self.get_question())
        prompt = self.renderer.build_generation_prompt([*self.convo_prefix, question])
        return prompt, self.stop_condition

    async def step(self, action: Action, *, extra: ActionExtra | None = None) -> StepResult:
        if self._is_over:
            raise over(self)
        message, termination = self.renderer.parse_response(action)
        text = get_text_content(message)
        strict = self.require_stop_sequence_for_format
        ended_well = termination.is_stop_sequence if strict else termination.is_clean
        format_ok = float(ended_well and self.check_format(text))
        correct = float(self.check_answer(text))
        cut_off = extra is not None and extra.get("stop_reason") == "length"
        self._is_over = True
        return StepResult(
            reward=self.format_coef * (format_ok - 1.0) + correct,
            episode_done=True,
            next_observation=ModelInput.empty(),
            next_stop_condition=self.stop_condition,
            metrics={"format": format_ok, "correct": correct},
            logs={
                "problem": self.get_question(),
                "response": format_content_as_string(message["content"]),
                "reference": self.get_reference_answer(),
            },
            stop_reason=StopReason.MAX_TOKENS if cut_off else StopReason.COMPLETED,
        )


@dataclass(frozen=True)
class ProblemGroupBuilder(EnvGroupBuilder):
    """The same problem for every member of a group.

    It pickles if `env_thunk` does: a `functools.partial` of an environment's class, not a lambda.
    """

    env_thunk: Callable[[], Env]
    """Makes the environment of one episode."""
    num_envs: int
    """Members of the group."""
    dataset_name: str = "problems"
    """Tag that metrics are averaged under."""

    async def make_envs(self) -> Sequence[Env]:
        return [self.env_thunk() for _ in range(self.num_envs)]

    def logging_tags(self) -> list[str]:
        return [self.dataset_name]


def load_renderer(model_name_for_tokenizer: str, renderer_name: str) -> Renderer:
    """The renderer that a builder's settings name.

    Imports transformers and reads the tokenizer's files: call it from a worker thread.
    """
    return get_renderer(renderer_name, get_tokenizer(model_name_for_tokenizer))
