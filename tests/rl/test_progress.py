import io
import re
import time

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tinker_rl.rl.progress import RunProgress, duration, headline

ROW = {
    "env/all/reward/total": 0.5,
    "env/all/correct": 0.25,
    "sampling/tokens_per_second": 1234.5,
}
EVALUATION = {"test/env/all/reward/total": 0.75, "test/env/all/correct": 1.0}


def shown(terminal, width=200):
    out = io.StringIO()
    return out, Console(file=out, force_terminal=terminal, width=width)


def test_plain_lines_are_whole_and_without_escapes():
    out, console = shown(terminal=False)
    with RunProgress(4, 2, console) as progress:
        progress.evaluated(2, EVALUATION)
        progress.working("rollouts", 1, 2)
        progress.step_done(2, ROW)
        progress.say("a [bracket] stays")
        progress.waiting("starting the sampler")
    text = out.getvalue()
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[0] == "after 2 steps, test: reward 0.750  accuracy 1.000"
    assert re.fullmatch(
        r"step 3/4  reward 0\.500  accuracy 0\.250  1234 tokens/s  ETA \d+:\d\d", lines[1]
    )
    assert lines[2] == "a [bracket] stays"
    assert lines[3] == "starting the sampler ..."
    assert len(lines) == 4


def test_a_terminal_sees_the_run_live():
    out, console = shown(terminal=True)
    with RunProgress(4, 0, console) as progress:
        progress.waiting("starting the sampler")
        time.sleep(1.2)  # it is redrawn ten times a second
        progress.working("rollouts", 1, 2)
        progress.step_done(0, ROW)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert {"0:00", "0:01"} <= set(re.findall(r"starting the sampler.* (\d:\d\d)", text))
    assert re.search(r"rollouts.* 0:00", text)  # each has a time of its own
    assert "accuracy 0.250" in text
    assert "1/4" in text


def test_an_environment_without_an_accuracy_shows_none():
    assert headline({"env/all/reward/total": 1.0}) == "reward 1.000"
    assert headline({}) == ""


@given(seconds=st.floats(0, 1e6))
def test_a_duration_reads_back(seconds):
    parts = [int(part) for part in duration(seconds).split(":")]
    total = 0
    for part in parts:
        total = 60 * total + part
    assert total == round(seconds)
    assert all(part < 60 for part in parts[1:])
