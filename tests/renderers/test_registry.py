"""Renderers by name, and renderers in a pickle."""

import pickle
import subprocess
import sys

import pytest

from tinker_rl.errors import ConfigError, UnknownNameError
from tinker_rl.renderers import (
    RENDERER_NAMES,
    RoleColonRenderer,
    get_registered_renderer_names,
    get_renderer,
    is_renderer_registered,
    register_renderer,
    unregister_renderer,
)

MESSAGES = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]


def test_an_unknown_name_gets_the_names_there_are(tiny_tokenizer):
    with pytest.raises(UnknownNameError) as raised:
        get_renderer("qwen3_instrct", tiny_tokenizer)
    message = str(raised.value)
    assert message.startswith("get_renderer: expected the name of a renderer; got 'qwen3_instrct'.")
    assert "Did you mean 'qwen3_instruct'?" in message
    assert all(name in message for name in RENDERER_NAMES)


def test_a_registered_renderer_is_made_by_its_factory(tiny_tokenizer):
    seen = []

    def factory(tokenizer, image_processor):
        seen.append(image_processor)
        return RoleColonRenderer(tokenizer)

    register_renderer("mine/colon", factory)
    try:
        renderer = get_renderer("mine/colon", tiny_tokenizer, image_processor="eye")
        assert seen == ["eye"]
        assert renderer.name == "mine/colon"
        assert is_renderer_registered("mine/colon")
        assert get_registered_renderer_names() == ["mine/colon"]
        assert type(pickle.loads(pickle.dumps(renderer))) is RoleColonRenderer
    finally:
        assert unregister_renderer("mine/colon")
    assert not unregister_renderer("mine/colon")
    with pytest.raises(UnknownNameError):
        get_renderer("mine/colon", tiny_tokenizer)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("qwen3_instruct", "tiny"),
        ("chat_template", "tiny"),
        ("role_colon", "base"),
        ("llama3", "llama3"),
    ],
)
def test_a_renderer_is_the_same_after_pickling(name, shape, renderer_of):
    renderer = renderer_of(name, shape)
    pickled = pickle.dumps(renderer)
    again = pickle.loads(pickled)
    assert type(again) is type(renderer)
    assert again.get_stop_sequences() == renderer.get_stop_sequences()
    for mine, other in zip(
        again.build_supervised_example(MESSAGES),
        renderer.build_supervised_example(MESSAGES),
        strict=True,
    ):
        assert mine == other if not hasattr(mine, "shape") else (mine == other).all()
    if shape == "tiny":  # loaded from a folder, so only that is in the pickle
        assert len(pickled) < 500


def test_a_tokenizer_that_is_gone_is_named(tiny_tokenizer, tmp_path):
    renderer = get_renderer("role_colon", tiny_tokenizer, model_name=str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match="expected a tokenizer at"):
        pickle.loads(pickle.dumps(renderer))


def test_importing_renderers_imports_neither_torch_nor_the_library():
    code = (
        "import sys, tinker_rl.renderers, tinker_rl.supervised.data; "
        "print({'torch', 'transformers', 'renderers'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
