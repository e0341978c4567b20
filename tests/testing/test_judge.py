"""A judge by rule: what it prefers, how noise and bias change that, and that it says so."""

import logging

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.errors import ConfigError, RequestError
from tinker_rl.testing.judge import (
    Comparison,
    FakeJudge,
    LabeledComparison,
    has_keyword,
    is_longer,
    is_shorter,
)


def compared(a, b, prompt="Say something."):
    return Comparison(
        [{"role": "user", "content": prompt}],
        [{"role": "assistant", "content": a}],
        [{"role": "assistant", "content": b}],
    )


def ask(judge, *comparisons, backend="trio"):
    async def all_of_them():
        return [await judge(comparison) for comparison in comparisons]

    return anyio.run(all_of_them, backend=backend)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [(is_longer, [1, -1, 0]), (is_shorter, [-1, 1, 0]), (has_keyword("please"), [1, 0, -1])],
)
def test_b_is_positive_and_a_is_negative(rule, expected, backend):
    comparisons = [compared("a", "please"), compared("aaa", "b"), compared("please", "thanks")]
    assert ask(FakeJudge(rule), *comparisons, backend=backend) == expected


texts = st.text(max_size=5)


@given(a=texts, b=texts, noise=st.floats(0, 1), seed=st.integers(0, 3))
def test_without_bias_the_order_of_the_answers_does_not_matter(a, b, noise, seed):
    judge = FakeJudge(is_longer, noise=noise, seed=seed)
    comparison = compared(a, b)
    first, second, again = ask(judge, comparison, comparison.swap(), comparison)
    assert first == -second
    assert first == again
    assert judge.verdicts[0].labeled.swap() == judge.verdicts[1].labeled


def test_noise_turns_round_that_share_of_the_answers():
    comparisons = [compared("a", "b" * n) for n in range(2, 402)]
    assert ask(FakeJudge(is_longer, noise=1.0), *comparisons) == [-1] * 400
    judge = FakeJudge(is_longer, noise=0.25)
    wrong = sum(answer < 0 for answer in ask(judge, *comparisons))
    assert 70 < wrong < 130
    assert wrong == sum(verdict.was_flipped for verdict in judge.verdicts)
    other = ask(FakeJudge(is_longer, noise=0.25, seed=1), *comparisons)
    assert other != [verdict.preference for verdict in judge.verdicts]


def test_a_bias_prefers_a_place_whatever_stands_there():
    comparison = compared("a", "bbb")
    assert ask(FakeJudge(is_longer, position_bias=2), comparison, comparison.swap()) == [1, 1]
    assert ask(FakeJudge(is_longer, position_bias=-0.5), comparison, comparison.swap()) == [0.5, -1]


def test_it_says_that_it_is_fake(caplog):
    judge = FakeJudge(has_keyword("tea"), noise=0.1)
    caplog.set_level(logging.INFO, "tinker_rl.testing.judge")
    ask(judge, compared("tea", "coffee"))
    assert repr(judge) == (
        "<FAKE judge: the rule has_keyword('tea'), noise 0.1, position bias 0.0; nobody judges>"
    )
    assert "FAKE" in judge.name
    assert caplog.messages == [f"{judge!r} says -1.00"]
    logs = judge.verdicts[0].logs()
    assert logs["judge"].startswith("FAKE")
    assert logs["judge_preference"] == logs["judge_by_rule"] == -1
    assert all(isinstance(value, str | float | bool) for value in logs.values())


def test_a_rule_of_ones_own_sees_the_prompt_and_must_keep_to_its_range():
    judge = FakeJudge(lambda prompt, a, b: 0.5 if prompt == "Say something." else -0.5)
    assert ask(judge, compared("x", "y"), compared("x", "y", "?")) == [0.5, -0.5]
    for wrong in (2.0, float("nan")):
        with pytest.raises(RequestError, match=r"expected its rule .* in \[-1, 1\]; got"):
            ask(FakeJudge(lambda prompt, a, b, wrong=wrong: wrong), compared("x", "y"))


def test_labels_are_those_that_dpo_trains_on():
    judge = FakeJudge(is_longer)
    labels = [judge.label(compared(*pair)).label for pair in (("a", "bb"), ("aa", "b"), ("a", "b"))]
    assert labels == ["B", "A", "Tie"]
    assert judge.verdicts == []  # nobody asked
    labelled = LabeledComparison(compared("a", "bb"), "B")
    assert labelled.swap().label == "A"
    assert labelled.swap().swap() == labelled
    with pytest.raises(AttributeError):
        labelled.comparison.completion_A = []


@pytest.mark.parametrize("options", [{"noise": 1.1}, {"noise": -0.1}, {"position_bias": 3}])
def test_noise_and_bias_have_a_range(options):
    with pytest.raises(ConfigError, match=r"FakeJudge\.\w+: expected"):
        FakeJudge(is_longer, **options)
