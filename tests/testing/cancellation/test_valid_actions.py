"""Valid actions lead to awaits that random tokens never reach, and a check says what it missed."""

from dataclasses import dataclass
from functools import partial

import anyio
import pytest
from hypothesis import strategies as st

from tinker_rl.envs import (
    Env,
    EnvFromMessageEnv,
    EnvGroupBuilder,
    MessageEnv,
    MessageStepResult,
    ProblemGroupBuilder,
    StepResult,
    load_renderer,
)
from tinker_rl.errors import ConfigError, RequestError
from tinker_rl.renderers import get_text_content
from tinker_rl.testing import CancellationError, cancel_everywhere
from tinker_rl.types import ModelInput

RENDERER = load_renderer("tiny", "qwen3_instruct")
WORDS = ["tea", "ant", "net"]
POLICY_ALONE = "await points were the policy's: no await of the environment was reached"


class Sessions:
    num_open = 0


def num_open():
    return Sessions.num_open


@pytest.fixture(autouse=True)
def _close_all():
    yield
    Sessions.num_open = 0


class Judged(MessageEnv):
    """Asks a judge about words alone, and does not close the session when it is cancelled."""

    def __init__(self):
        self.messages = [{"role": "user", "content": "Say a word."}]

    async def initial_observation(self):
        return list(self.messages)

    async def step(self, message):
        if get_text_content(message) in WORDS:
            Sessions.num_open += 1
            await self.judge()
            Sessions.num_open -= 1
        self.messages += [message, {"role": "user", "content": "Another."}]
        return MessageStepResult(0.0, len(self.messages) > 5, list(self.messages))

    async def judge(self):
        await anyio.sleep(1)


@dataclass
class JudgedGroup(EnvGroupBuilder):
    size: int = 2

    async def make_envs(self):
        return [EnvFromMessageEnv(RENDERER, Judged()) for _ in range(self.size)]


def test_what_random_tokens_do_not_reach_is_said(backend):
    report = cancel_everywhere(JudgedGroup, backend=backend, borrowed=num_open)
    assert report.notes == (
        f"all {len(report.points)} {POLICY_ALONE}, though Judged.step could wait. "
        "Name valid_actions=..., or make_actor=...",
    )


@pytest.mark.parametrize("given", [WORDS, st.sampled_from(WORDS)], ids=["listed", "drawn"])
def test_valid_actions_reach_it(given, backend):
    with pytest.raises(CancellationError) as raised:
        cancel_everywhere(JudgedGroup, valid_actions=given, backend=backend, borrowed=num_open)
    report = raised.value.report
    assert report.notes == ()
    (finding,) = report.findings
    assert finding.kind == "borrowed"
    assert {point.acting for point in finding.points} == {"valid actions"}
    assert {point.acting for point in report.points} == {"valid actions", "random tokens"}
    assert [point.number for point in report.points] == list(range(len(report.points)))
    assert "cancelled at point 2 with valid actions, in Judged.step of member" in str(raised.value)


def test_its_replay_line_finds_the_same():
    with pytest.raises(CancellationError) as raised:
        cancel_everywhere(JudgedGroup, valid_actions=list(WORDS), borrowed=num_open)
    Sessions.num_open = 0
    (finding,) = raised.value.report.findings
    (line,) = (line for line in str(raised.value).splitlines() if "replay: " in line)
    assert f", valid_actions={WORDS!r}" in line
    with pytest.raises(CancellationError) as again:
        eval(line.partition("replay: ")[2])
    (found,) = again.value.report.findings
    assert found.points == finding.points[:1]
    assert found.points[0].source == "await anyio.sleep(1)"


class Opens(Judged):
    """Waits before it acts as well."""

    async def initial_observation(self):
        await anyio.sleep(1)
        return list(self.messages)


def test_a_step_that_could_wait_and_does_not_is_named(backend):
    builder = ProblemGroupBuilder(lambda: EnvFromMessageEnv(RENDERER, Opens()), 1)
    (note,) = cancel_everywhere(builder, backend=backend).notes
    assert note.startswith("Opens.step never waited, and could. Name valid_actions=")
    (note,) = cancel_everywhere(builder, backend=backend, valid_actions=["no word"]).notes
    assert note == "Opens.step never waited, and could"


class Notes(Env):
    """Knows tokens alone, and keeps what it was told."""

    told = []  # noqa: RUF012

    async def initial_observation(self):
        return ModelInput.from_ints([1]), [0]

    async def step(self, action):
        self.told.append(tuple(action))
        return StepResult(0.0, False, ModelInput.from_ints([1, *action]), [0])


def test_every_action_is_played_in_its_order(monkeypatch):
    monkeypatch.setattr(Notes, "told", [])
    builder = partial(ProblemGroupBuilder, Notes, 1)
    actions = [[number] for number in range(1, 13)]
    report = cancel_everywhere(builder, valid_actions=actions, max_points=1)
    wanted = [(number, 0) for number in [*range(1, 13), 1, 2, 3]]
    assert Notes.told[: len(wanted)] == wanted
    assert f"of these {len(wanted)} with valid actions, 5 with random tokens" in str(report)
    assert report.notes[-1] == f"all {len(report.points)} {POLICY_ALONE}"


def test_members_begin_with_different_actions(monkeypatch):
    monkeypatch.setattr(Notes, "told", [])
    builder = partial(ProblemGroupBuilder, Notes, 3)
    cancel_everywhere(builder, valid_actions=[[n] for n in range(1, 10)], max_points=1)
    assert set(Notes.told[:3]) == {(1, 0), (4, 0), (7, 0)}


def test_messages_are_written_as_the_renderer_does():
    said = [{"role": "assistant", "content": word} for word in WORDS]
    with pytest.raises(CancellationError, match=r"with valid actions, in Judged\.step"):
        cancel_everywhere(JudgedGroup, valid_actions=said, borrowed=num_open)


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match=r"Write valid_actions=\['tea'\]"):
        cancel_everywhere(JudgedGroup, valid_actions="tea")
    with pytest.raises(ConfigError, match="got both"):
        cancel_everywhere(JudgedGroup, valid_actions=WORDS, make_actor=lambda: None)
    builder = ProblemGroupBuilder(Notes, 1)
    with pytest.raises(RequestError, match="Notes holds no renderer or tokenizer; got texts"):
        cancel_everywhere(builder, valid_actions=WORDS)
