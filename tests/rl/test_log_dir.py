import functools
import json

import chz
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.envs import RLDatasetBuilder
from tinker_rl.errors import ConfigError
from tinker_rl.rl.config import Config
from tinker_rl.rl.log_dir import (
    check_log_dir,
    config_differences,
    dump_config,
    lock_log_dir,
    prepare_log_dir,
)


@chz.chz
class Data(RLDatasetBuilder):
    batch_size: int = 4


def config(log_dir, **options):
    return Config(
        **{
            "learning_rate": 1e-4,
            "dataset_builder": Data(),
            "model_name": "tiny",
            "max_tokens": 8,
            "log_path": str(log_dir),
            **options,
        }
    )


def held(log_dir, **options):
    """A folder with results of a run."""
    prepare_log_dir(log_dir, dump_config(config(log_dir, **options)))
    (log_dir / "metrics.jsonl").write_text('{"step":0}\n')
    return log_dir


def never(question):
    raise AssertionError(f"asked: {question}")


def test_a_config_is_dumped_as_json_with_everything_in_it(tmp_path):
    dumped = dump_config(config(tmp_path, evaluator_builders=[functools.partial, never]))
    assert json.loads(json.dumps(dumped)) == dumped
    assert dumped["dataset_builder"] == {"type": "Data", "batch_size": 4}
    assert dumped["limits"]["cleanup_seconds"] == 30.0
    assert dumped["evaluator_builders"][1].endswith("test_log_dir.never")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=6,
)
configs = st.dictionaries(st.text(max_size=2), json_values, max_size=4)


@given(old=configs, new=configs)
def test_differences_are_there_if_and_only_if_configs_differ(old, new):
    assert bool(config_differences(old, new)) == (old != new)
    assert len(config_differences(old, new)) == len(config_differences(new, old))
    assert config_differences(old, old) == []


def test_a_difference_is_named_by_its_path_with_both_values():
    old = {"a": {"b": 1, "c": [1]}, "d": "x"}
    new = {"a": {"b": 2, "c": [1]}, "e": None}
    assert config_differences(old, new) == [
        "a.b: 1 -> 2",
        'd: "x" -> (absent)',
        "e: (absent) -> null",
    ]


def test_what_changes_nothing_that_is_learned_is_no_difference(tmp_path):
    old = dump_config(config(tmp_path))
    options = {"max_steps": 7, "save_every": 1, "eval_every": 0, "sampler_name": "vllm"}
    new = dump_config(config(tmp_path / "b", on_weight_sync_error="continue", **options))
    assert config_differences(old, new) == []
    del old["sampler_name"], old["on_weight_sync_error"]  # a run of an earlier version
    assert config_differences(old, new) == []


@pytest.mark.parametrize("behavior", ["ask", "resume", "delete", "raise"])
def test_a_new_or_empty_folder_is_fine(tmp_path, behavior):
    for folder in (tmp_path / "new", tmp_path):
        check_log_dir(folder, dump_config(config(folder)), behavior, ask=never)


@pytest.mark.parametrize("behavior", ["ask", "resume", "delete", "raise"])
def test_a_run_that_never_wrote_a_result_has_nothing_to_lose(tmp_path, behavior):
    prepare_log_dir(tmp_path, dump_config(config(tmp_path, learning_rate=1.0)))
    check_log_dir(tmp_path, dump_config(config(tmp_path)), behavior, ask=never)


@pytest.mark.parametrize("behavior", ["ask", "resume"])
def test_the_same_command_goes_on_without_a_question(tmp_path, behavior):
    held(tmp_path)
    check_log_dir(tmp_path, dump_config(config(tmp_path, max_steps=9)), behavior, ask=never)
    assert (tmp_path / "metrics.jsonl").exists()


def test_another_run_is_asked_about_with_the_difference_shown(tmp_path):
    held(tmp_path, learning_rate=1.0)
    questions = []

    def answers(*given):
        answers = iter(given)
        return lambda question: questions.append(question) or next(answers)

    new = dump_config(config(tmp_path))
    check_log_dir(tmp_path, new, "ask", ask=answers("what?", " Resume "))
    assert "learning_rate: 1.0 -> 0.0001" in questions[0]
    assert len(questions) == 2
    with pytest.raises(ConfigError, match=r"learning_rate: 1\.0 -> 0\.0001"):
        check_log_dir(tmp_path, new, "ask", ask=answers("exit"))
    check_log_dir(tmp_path, new, "ask", ask=answers("delete"))
    assert not tmp_path.exists()


def test_without_a_terminal_another_run_is_an_error(tmp_path):
    held(tmp_path, learning_rate=1.0)
    with pytest.raises(ConfigError, match="no terminal to ask on"):
        check_log_dir(tmp_path, dump_config(config(tmp_path)), "ask")
    assert (tmp_path / "metrics.jsonl").exists()


def test_raise_refuses_even_the_same_run_and_delete_starts_afresh(tmp_path):
    held(tmp_path)
    same = dump_config(config(tmp_path))
    with pytest.raises(ConfigError, match="Its options are the same"):
        check_log_dir(tmp_path, same, "raise")
    check_log_dir(tmp_path, same, "delete")
    assert not tmp_path.exists()


@pytest.mark.parametrize("behavior", ["ask", "resume", "delete", "raise"])
@pytest.mark.parametrize("text", [None, "{}", "[1]", "nonsense", '{"model_type": "llama"}'])
def test_a_folder_that_is_no_runs_is_left_as_it_is(tmp_path, behavior, text):
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "metrics.jsonl").write_text("")
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match="this one is left as it is"):
        check_log_dir(tmp_path, dump_config(config(tmp_path)), behavior, ask=never)
    assert (tmp_path / "thesis.tex").exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="a folder that can be made"):
        prepare_log_dir(tmp_path / "file" / "run", {})
    with pytest.raises(ConfigError, match="this one is left as it is"):
        check_log_dir(tmp_path / "file", {}, "delete")


def test_a_folder_is_one_process_at_a_time(tmp_path):
    def enter_again():
        with lock_log_dir(tmp_path):
            return True

    with lock_log_dir(tmp_path), pytest.raises(ConfigError, match="a run is under way"):
        enter_again()
    assert enter_again()
