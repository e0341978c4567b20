from functools import partial

import pytest

from tinker_rl.envs import (
    DATASET_BUILDERS,
    ArithmeticDatasetBuilder,
    Gsm8kDatasetBuilder,
    get_dataset_builder,
)
from tinker_rl.errors import ConfigError, UnknownNameError

get = partial(
    get_dataset_builder,
    batch_size=4,
    group_size=2,
    model_name_for_tokenizer="tiny",
    renderer_name="qwen3_instruct",
)


def test_a_builder_is_found_by_name_and_has_the_settings_given():
    builder = get("gsm8k", seed=3, data_path="somewhere", n_test=5)
    assert builder == Gsm8kDatasetBuilder(
        batch_size=4,
        group_size=2,
        model_name_for_tokenizer="tiny",
        renderer_name="qwen3_instruct",
        seed=3,
        data_path="somewhere",
        n_test=5,
    )


def test_a_setting_of_none_is_the_default():
    builder = get("arithmetic", n_test=None, data_path=None)
    assert isinstance(builder, ArithmeticDatasetBuilder)
    assert builder.n_test == 200


def test_an_unknown_name_is_answered_with_what_there_is():
    with pytest.raises(UnknownNameError) as caught:
        get("gsm8")
    assert "got 'gsm8'. Did you mean 'gsm8k'?" in str(caught.value)
    assert all(name in str(caught.value) for name in DATASET_BUILDERS)


def test_a_setting_that_the_data_set_lacks_is_refused():
    with pytest.raises(ConfigError, match=r"'arithmetic'.*got 'data_path'"):
        get("arithmetic", data_path="somewhere")
    with pytest.raises(ConfigError, match=r"got 'n_epoch'\. Did you mean 'n_epochs'"):
        get("gsm8k", n_epoch=2)
