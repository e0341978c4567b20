"""Every format of the library has a name and trains what it samples; bad input is refused."""

import contextlib
from typing import get_args

import pytest
import renderers

from tinker_rl.errors import ConfigError, UnsupportedError
from tinker_rl.renderers import get_renderer
from tinker_rl.renderers.library import warn_of_other_start
from tinker_rl.renderers.registry import FAMILIES

GPT_OSS = [name for name in FAMILIES if name.startswith("gpt_oss")]
OFFLINE = [name for name in FAMILIES if name not in GPT_OSS]
# Their templates begin an answer without reasoning otherwise than their prompts do.
NEED_REASONING = {
    name
    for name in FAMILIES
    if name.startswith(("qwen3_5", "qwen3_8", "qwen3.6", "nemotron"))
    and not name.endswith("disable_thinking")
} | {"deepseek-r1", "glm-5", "minimax-m2"}


def test_every_format_of_the_library_has_a_name():
    union = get_args(get_args(renderers.RendererConfig)[0])
    known = {config.model_fields["name"].default for config in union}
    assert known - {"auto", "default", "custom"} == {f.library_name for f in FAMILIES.values()}


@pytest.mark.parametrize("name", OFFLINE)
def test_every_family_trains_what_it_samples(name, tokenizers, caplog):
    warn_of_other_start.cache_clear()
    tokenizer = tokenizers("families")
    renderer = get_renderer(name, tokenizer)
    messages = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "It is 4."}]
    prompt = renderer.build_generation_prompt(messages[:1]).to_ints()
    model_input, weights = renderer.build_supervised_example(messages)
    tokens = model_input.to_ints()
    assert tokens[-1] in renderer.get_stop_sequences()
    assert weights[-1] == 1
    trained = [token for token, weight in zip(tokens, weights, strict=True) if weight]
    written = tokenizer.decode(trained, skip_special_tokens=False)
    assert "It is 4." in written
    assert "2 + 2?" not in written
    assert ("begins an answer otherwise" in caplog.text) == (name in NEED_REASONING)
    if name in NEED_REASONING:
        return
    assert tokens[: len(prompt)] == prompt
    assert weights.tolist() == [0] * len(prompt) + [1] * (len(tokens) - len(prompt))
    message, termination = renderer.parse_response(tokens[len(prompt) :])
    assert message == {"role": "assistant", "content": "It is 4."}
    assert termination


@pytest.mark.parametrize("name", GPT_OSS)
def test_gpt_oss_works_or_says_that_it_lacks_its_vocabulary(name, tokenizers):
    # Its library downloads the vocabulary, which works on some machines only.
    with contextlib.suppress(ConfigError):
        assert get_renderer(name, tokenizers("families")).get_stop_sequences()
        return
    with pytest.raises(ConfigError, match="vocab"):
        get_renderer(name, tokenizers("families"))


# -------------------------------------------------------------------------------------- bad input


def test_a_tokenizer_of_another_family_is_refused(tokenizers):
    with pytest.raises(ConfigError, match=r"get_renderer\('llama3'\): expected a tokenizer"):
        get_renderer("llama3", tokenizers("qwen3"))


def test_a_message_that_the_format_would_drop_is_refused(tokenizers):
    renderer = get_renderer("qwen3_vl_instruct", tokenizers("qwen3"))
    messages = [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]
    with pytest.raises(UnsupportedError, match=r"messages\[1\] of role 'system'"):
        renderer.build_generation_prompt(messages)


def test_other_roles_cannot_answer(tiny_tokenizer):
    renderer = get_renderer("qwen3_instruct", tiny_tokenizer)
    with pytest.raises(UnsupportedError, match="role 'assistant' to answer"):
        renderer.build_generation_prompt([{"role": "assistant", "content": "Hi."}], role="user")


def test_weights_need_a_tokenizer_with_offsets(tiny_tokenizer):
    class Slow:
        """The same tokenizer without character offsets, as slow ones are."""

        def __call__(self, *texts, **options):
            raise NotImplementedError

        def __getattr__(self, attribute):
            return getattr(tiny_tokenizer, attribute)

    renderer = get_renderer("qwen3_instruct", Slow())
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    fast = get_renderer("qwen3_instruct", tiny_tokenizer)
    assert renderer.build_generation_prompt(messages) == fast.build_generation_prompt(messages)
    with pytest.raises(UnsupportedError, match="character offsets"):
        renderer.build_supervised_example(messages)
