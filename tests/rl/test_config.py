import math

import chz
import pytest

from tinker_rl.envs import RLDatasetBuilder
from tinker_rl.errors import ConfigError, UnsupportedError
from tinker_rl.rl import AsyncConfig, Config, StreamMinibatchConfig


@chz.chz
class Data(RLDatasetBuilder):
    pass


def config(**options):
    return Config(
        **{
            "learning_rate": 1e-4,
            "dataset_builder": Data(),
            "model_name": "tiny",
            "max_tokens": 8,
            "log_path": "~/runs/a",
            **options,
        }
    )


def test_the_folder_may_be_under_home():
    assert "~" not in config().log_path


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("async_config", AsyncConfig(max_steps_off_policy=1, groups_per_batch=4)),
        ("stream_minibatch_config", StreamMinibatchConfig(groups_per_batch=4, num_minibatches=2)),
        ("kl_penalty_coef", 0.1),
    ],
)
def test_what_is_not_there_yet_is_refused_and_not_ignored(name, value):
    with pytest.raises(UnsupportedError, match=rf"{name}: expected its default; got .*not there"):
        config(**{name: value})


def test_a_temperature_that_the_losses_do_not_know_of_must_be_allowed():
    with pytest.raises(ConfigError, match="allow_mismatched_sampling"):
        config(temperature=0.7)
    assert config(temperature=0.7, allow_mismatched_sampling=True).temperature == 0.7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("num_epochs", 0),
        ("num_substeps", 0),
        ("lora_rank", 0),
        ("eval_every", -1),
        ("save_every", -1),
        ("num_groups_to_log", -1),
        ("max_failed_group_fraction", -0.1),
        ("max_weight_sync_failures", 0),
        ("on_weight_sync_error", "ignore"),
        ("max_steps", -1),
        ("max_concurrent_groups", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=rf"{name}: expected .*; got "):
        config(**{name: value})
