import numpy as np
import pytest

from tinker_rl.viewer.titles import LENGTH, title_of
from tinker_rl.viewer.tokens import load_token_text


@pytest.fixture(scope="module")
def title(make):
    text, _ = load_token_text("tiny")
    return lambda prompt: title_of(np.array(make.tokenizer.encode(prompt), np.int64), text)


USER = "<|im_start|>user\n{}<|im_end|>\n"
ASSISTANT = "<|im_start|>assistant\n"


def test_the_last_message_of_the_user_is_the_title(title):
    system = "<|im_start|>system\nBe brief.<|im_end|>\n"
    assert title(system + USER.format("1+1 = ?") + ASSISTANT) == "1+1 = ?"
    later = USER.format("one") + f"{ASSISTANT}two<|im_end|>\n" + USER.format("three\n\n four")
    assert title(later + ASSISTANT) == "three four"


def test_an_answer_that_was_begun_for_the_policy_is_no_title(title):
    assert title(USER.format("think") + f"{ASSISTANT}Let me see") == "think"


def test_a_prompt_of_no_chat_is_its_own_beginning(title):
    assert title("Q: 2+2?\nA:") == "Q: 2+2? A:"
    assert title("") == ""


def test_a_title_is_short(title):
    assert title(USER.format("word " * 500)) == ("word " * 500)[:LENGTH].strip()
