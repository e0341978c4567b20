"""The code of docs/rl.md runs as it stands there."""

import re
from pathlib import Path

import anyio

from tinker_rl.completers import ScriptedTokenCompleter
from tinker_rl.rl.files import JsonLines
from tinker_rl.rl.loggers import RowLog, logger_problems
from tinker_rl.rl.schedules import schedule_problems

TEXT = (Path(__file__).parents[2] / "docs" / "rl.md").read_text(encoding="utf-8")
FIRST, SCHEDULES, LEAGUE, LOGGERS, PIECES = re.findall(
    r"```python\n(.*?)```", TEXT, flags=re.DOTALL
)


def test_the_first_example_trains(tmp_path, monkeypatch, capsys):
    small = FIRST.replace("batch_size=32", "batch_size=2, n_test=2").replace("=30", "=1")
    monkeypatch.setenv("HOME", str(tmp_path))
    exec(compile(small, "docs/rl.md", "exec"), {})
    assert (tmp_path / "tinker-runs" / "arithmetic" / "metrics.jsonl").exists()
    before, after = (float(line) for line in capsys.readouterr().out.splitlines()[-2:])
    assert 0 <= before <= 1
    assert 0 <= after <= 1


def test_the_schedules_go_together():
    names = {}
    exec(compile(SCHEDULES, "docs/rl.md", "exec"), names)
    options = names["options"]
    configs = options["async_config"], options["stream_minibatch_config"]
    assert not list(schedule_problems(*configs, options["num_substeps"]))


def test_an_opponent_of_a_league_acts():
    names = {}
    exec(compile(LEAGUE, "docs/rl.md", "exec"), names)

    class Opponents:
        def completer(self):
            return ScriptedTokenCompleter([[4]])

    async def duel():
        env = names["Duel"](Opponents())
        await env.initial_observation()
        return await env.step([5])

    assert anyio.run(duel).reward == 1.0
    assert names["league"].options["max_lag"] == 2


def test_the_loggers_log(tmp_path, capsys):
    names = {}
    exec(compile(LOGGERS, "docs/rl.md", "exec"), names)
    assert not list(logger_problems(names["loggers"]))
    said = []
    loggers = {"prints": names["loggers"][1]}
    options = {"learning_rate": 0.5}
    log = RowLog(JsonLines(tmp_path / "metrics.jsonl"), loggers, "recipe", options, said.append)
    log.append({"step": 3, "progress/batch": 3, "env/all/reward/total": 0.25})
    anyio.run(log.aclose)
    assert capsys.readouterr().out.split()[1:] == ["0.5", "3", "0.25", "done"]
    assert said == []


def test_the_pieces_fit_together():
    names = {}
    exec(compile(PIECES, "docs/rl.md", "exec"), names)
    (sequence,) = anyio.run(names["episode"])
    assert sequence.num_action_tokens == 1
