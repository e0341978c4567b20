"""Two starts of a real run of `tiny`."""

import json

import pytest

from tinker_rl.clients import ServiceClient
from tinker_rl.engine.local import EngineOptions
from tinker_rl.envs.arithmetic import ArithmeticDatasetBuilder
from tinker_rl.rl import Config, train


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    options = EngineOptions(home=str(tmp_path_factory.mktemp("home")), threads=1)
    with ServiceClient(engine_options=options) as client:
        yield client


def test_loggers_get_the_rows_of_the_file_over_all_starts(kit, tmp_path, service):
    def start(max_steps, loggers):
        data = ArithmeticDatasetBuilder(
            batch_size=2,
            group_size=2,
            model_name_for_tokenizer="tiny",
            renderer_name="qwen3_instruct",
            n_test=4,
        )
        config = Config(
            learning_rate=1e-3,
            dataset_builder=data,
            model_name="tiny",
            max_tokens=4,
            lora_rank=4,
            eval_every=1,
            max_steps=max_steps,
            log_path=str(tmp_path / "run"),
            recipe_name="sums",
            loggers=loggers,
        )
        return train(config, service)

    early, late, broken = kit.Keeps(), kit.Keeps(), kit.Keeps(starts=False)
    assert start(1, [early, broken]).num_steps_done == 1
    assert start(2, [early, late]).num_steps_done == 2  # other loggers are the same run

    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    wanted = [(row["step"], tuple(sorted(name for name in row if name != "step"))) for row in rows]
    assert len(wanted) == 5  # two steps, three evaluations
    assert sorted(early.rows) == sorted(late.rows) == sorted(wanted)
    assert early.num_finished == 2
    assert late.num_finished == 1
    (first, second), (third,) = early.runs, late.runs
    assert first.id == second.id == third.id
    assert first.id.startswith("run-")
    assert first.project == "sums"
    assert first.config["learning_rate"] == 1e-3
