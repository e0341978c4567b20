import sys

import chz
import pytest

from tinker_rl.envs import RLDatasetBuilder
from tinker_rl.errors import ConfigError
from tinker_rl.rl import Config
from tinker_rl.rl.log_dir import config_differences, dump_config
from tinker_rl.rl.loggers import make_loggers


@chz.chz
class Data(RLDatasetBuilder):
    pass


def config(**options):
    return Config(
        learning_rate=1e-4,
        dataset_builder=Data(),
        model_name="tiny",
        max_tokens=8,
        log_path="runs/a",
        **options,
    )


def test_a_missing_package_is_said_at_once_with_all_else_that_is_wrong(monkeypatch):
    for package in ("tensorboardX", "wandb", "trackio"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(ConfigError) as raised:
        config(loggers=["tensorboard", "wandb", "trackio"], max_steps=-1)
    text = str(raised.value)
    assert "got 4 that do not" in text
    for extra in ("tensorboard", "wandb", "trackio"):
        assert f"pip install 'tinker-rl[{extra}]'" in text


@pytest.mark.parametrize(
    ("loggers", "said"),
    [
        (["tensorbord"], "expected names of tensorboard, wandb, trackio; got 'tensorbord'"),
        ([object()], "objects with start, log and finish"),
        (["tensorboard", "tensorboard"], "each name once; got tensorboard twice"),
    ],
)
def test_what_is_no_logger_is_refused(loggers, said):
    with pytest.raises(ConfigError, match=said):
        config(loggers=loggers)


def test_each_logger_has_a_name_of_its_own(kit):
    made = make_loggers(["tensorboard", kit.Keeps(), kit.Keeps(), kit.Keeps()])
    assert list(made) == ["tensorboard", "Keeps", "Keeps 2", "Keeps 3"]


def test_loggers_may_differ_from_one_start_to_the_next(kit):
    old, new = (dump_config(config(loggers=asked)) for asked in ([], ["wandb", kit.Keeps()]))
    assert old["loggers"] != new["loggers"]
    assert config_differences(old, new) == []
