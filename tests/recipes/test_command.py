import chz
import pytest

from tinker_rl.errors import ConfigError
from tinker_rl.recipes.command import INTERRUPTED, run_command


@chz.chz
class Config:
    number: int = 1


def run(main, monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["recipe", *arguments])
    run_command(main, Config)


def test_arguments_become_the_config(monkeypatch):
    seen = []
    run(lambda config: seen.append(config.number), monkeypatch, "number=7")
    assert seen == [7]


def test_a_coroutine_function_is_run_to_its_end(monkeypatch):
    seen = []

    async def main(config):
        seen.append(config.number)

    run(main, monkeypatch)
    assert seen == [1]


@pytest.mark.parametrize("argument", ["nmber=2", "number=two", "number"])
def test_a_wrong_argument_is_an_error_that_names_it(monkeypatch, capsys, argument):
    with pytest.raises(SystemExit) as ended:
        run(lambda config: None, monkeypatch, argument)
    assert ended.value.code == 1
    assert argument.partition("=")[0] in capsys.readouterr().err


def test_help_lists_the_options(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run(lambda config: None, monkeypatch, "--help")
    assert ended.value.code == 0
    assert "number" in capsys.readouterr().out


def raise_(error):
    raise error


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("rank: expected 1 or more; got [0]."),
        ExceptionGroup("tasks", [ConfigError("rank: expected 1 or more; got [0].")]),
    ],
)
def test_an_error_a_user_can_mend_is_printed_without_a_traceback(monkeypatch, capsys, error):
    with pytest.raises(SystemExit) as ended:
        run(lambda config: raise_(error), monkeypatch)
    assert ended.value.code == 1
    written = capsys.readouterr().err
    assert "rank: expected 1 or more; got [0]." in written
    assert "Traceback" not in written


def test_any_other_error_keeps_its_traceback(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        run(lambda config: 1 / 0, monkeypatch)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), BaseExceptionGroup("", [KeyboardInterrupt()])]
)
def test_ctrl_c_ends_with_its_own_status(monkeypatch, error):
    with pytest.raises(SystemExit) as ended:
        run(lambda config: raise_(error), monkeypatch)
    assert ended.value.code == INTERRUPTED
