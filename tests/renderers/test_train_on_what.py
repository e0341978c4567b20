"""Which turns are trained on, and what is refused."""

import pytest

from tinker_rl.errors import RequestError
from tinker_rl.renderers import TrainOnWhat, get_renderer
from tinker_rl.renderers.train_on_what import as_train_on_what, trained_messages

ROLES = ["system", "user", "assistant", "user", "assistant", "tool", "assistant"]
MESSAGES = [{"role": role, "content": role} for role in ROLES]


@pytest.mark.parametrize(
    ("mode", "trained"),
    [
        (TrainOnWhat.LAST_ASSISTANT_MESSAGE, {6}),
        (TrainOnWhat.LAST_ASSISTANT_TURN, {4, 6}),
        (TrainOnWhat.ALL_ASSISTANT_MESSAGES, {2, 4, 6}),
        (TrainOnWhat.ALL_MESSAGES, set(range(7))),
        (TrainOnWhat.ALL_TOKENS, set(range(7))),
        (TrainOnWhat.ALL_USER_AND_SYSTEM_MESSAGES, {0, 1, 3}),
    ],
)
def test_a_mode_selects_its_turns(mode, trained):
    assert trained_messages(MESSAGES, mode) == trained


def test_customized_selects_the_turns_that_are_marked():
    marked = [message | {"trainable": i in (1, 4)} for i, message in enumerate(MESSAGES)]
    assert trained_messages(marked, TrainOnWhat.CUSTOMIZED) == {1, 4}


@pytest.mark.parametrize(
    ("messages", "mode", "says"),
    [
        (MESSAGES[:4], TrainOnWhat.ALL_ASSISTANT_MESSAGES, "ends with an assistant message; got"),
        (MESSAGES[2:3], TrainOnWhat.ALL_USER_AND_SYSTEM_MESSAGES, "expected a message to train on"),
        (MESSAGES, TrainOnWhat.CUSTOMIZED, r"messages\[0\]: expected the field 'trainable'"),
        (
            [message | {"trainable": True} for message in MESSAGES],
            TrainOnWhat.ALL_MESSAGES,
            r"messages\[0\]: expected the field 'trainable' on every message with",
        ),
        (
            [message | {"trainable": False} for message in MESSAGES],
            TrainOnWhat.CUSTOMIZED,
            "expected a message to train on with 'customized'",
        ),
    ],
)
def test_nothing_to_train_on_is_refused(messages, mode, says):
    with pytest.raises(RequestError, match=says):
        trained_messages(messages, mode)


def test_a_mode_may_be_given_by_its_value(tiny_tokenizer):
    assert as_train_on_what("all_tokens") is TrainOnWhat.ALL_TOKENS
    with pytest.raises(RequestError, match="Did you mean 'all_messages'"):
        as_train_on_what("all_message")
    renderer = get_renderer("qwen3_instruct", tiny_tokenizer)
    _, weights = renderer.build_supervised_example(MESSAGES[1:3], "all_tokens")
    assert weights.all()
