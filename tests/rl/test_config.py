import math

import chz
import pytest

from tinker_rl.envs import RLDatasetBuilder
from tinker_rl.errors import ConfigError
from tinker_rl.policies import League
from tinker_rl.rl import AsyncConfig, Config, KLReferenceConfig, StreamMinibatchConfig


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


def asynchronous(**options):
    return AsyncConfig(**{"max_steps_off_policy": 2, "groups_per_batch": 4, **options})


def streaming(**options):
    return StreamMinibatchConfig(**{"groups_per_batch": 4, "num_minibatches": 2, **options})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"async_config": asynchronous(lag="fixed", straggler="mask")}, "'wait' with lag='fixed'"),
        ({"async_config": asynchronous(lag="fixed", refresh="turn")}, "'never' with lag='fixed'"),
        ({"async_config": asynchronous(lag="oldest")}, "one of newest, fixed"),
        ({"async_config": asynchronous(max_steps_off_policy=-1)}, "0 or more; got -1"),
        ({"async_config": asynchronous(max_masked_fraction=2.0)}, "a share from 0 to 1"),
        ({"stream_minibatch_config": streaming(num_minibatches=3)}, "a multiple of .* = 3; got 4"),
        ({"stream_minibatch_config": streaming(), "num_substeps": 4}, "= 8; got 4"),
        ({"stream_minibatch_config": streaming(num_minibatches=0)}, "1 or more; got 0"),
        (
            {
                "async_config": asynchronous(groups_per_batch=8),
                "stream_minibatch_config": streaming(),
            },
            "the same in async_config and stream_minibatch_config; got 8 and 4",
        ),
        ({"kl_reference_config": KLReferenceConfig(base_model="tiny")}, "more than 0 with a kl_"),
        (
            {
                "kl_penalty_coef": 0.1,
                "kl_reference_config": KLReferenceConfig(base_model="other"),
            },
            "no second base model",
        ),
        ({"kl_discount_factor": 1.5, "kl_penalty_coef": 0.1}, "0 to 1; got 1.5"),
        ({"kl_discount_factor": 0.5}, "more than 0 with a kl_discount_factor"),
        ({"behavior_if_log_dir_exists": "overwrite"}, "one of delete, resume, ask, raise"),
        ({"league": League(max_lag=1), "async_config": asynchronous()}, r"League\(max_lag=2"),
        ({"learning_rate": "1e-3"}, "learning_rate: expected float; got '1e-3', a str"),
        ({"group_policy": "retry"}, "group_policy: expected GroupPolicy; got 'retry'"),
        ({"async_config": {"lag": "fixed"}}, "async_config: expected .*AsyncConfig"),
        ({"kl_warn": 0.2, "kl_stop": 0.1}, "kl_warn=0.2 or more; got 0.1"),
        ({"loss_fn": "dro", "async_config": asynchronous(straggler="mask")}, "advantage of 0"),
    ],
)
def test_options_that_contradict_each_other_are_refused_by_name(options, said):
    with pytest.raises(ConfigError, match=said):
        config(**options)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ConfigError, match="got 4 that do not") as raised:
        config(
            max_tokens=0,
            learning_rate=-1.0,
            async_config=asynchronous(lag="fixed", straggler="mask", refresh="publish"),
        )
    lines = str(raised.value).splitlines()[1:]
    names = ["max_tokens", "learning_rate", "async_config.straggler", "async_config.refresh"]
    assert [line.strip().split(":")[0] for line in lines] == names


def test_schedules_combine():
    combined = config(
        async_config=asynchronous(straggler="mask"),
        stream_minibatch_config=streaming(num_minibatches=1),
        num_substeps=2,
    )
    schedule = combined.schedule
    assert (schedule.max_steps_off_policy, schedule.num_minibatches) == (2, 2)
    assert schedule.max_token_age == 2
    assert config(async_config=asynchronous()).schedule.max_token_age is None
    with pytest.raises(ConfigError, match="expected 3, the dataset's batch size; got 4"):
        schedule.window(3, 5)


def test_ppo_is_the_loss_of_asynchronous_runs_and_importance_sampling_of_the_others():
    assert config().loss[0] == "importance_sampling"
    assert config(stream_minibatch_config=streaming()).loss[0] == "importance_sampling"
    assert config(async_config=asynchronous()).loss[0] == "ppo"
    assert config(async_config=asynchronous(), loss_fn="cispo").loss[0] == "cispo"
    truncated = config(async_config=asynchronous(), loss_fn="truncated_importance_sampling")
    assert truncated.training_options.loss_fn == "cispo"


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
