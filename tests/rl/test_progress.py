import io
import re
import threading

import pytest
from rich.console import Console

from tinker_rl.rl.progress import RunProgress, headline

ROW = {
    "step": 0,
    "progress/batch": 0,
    "env/all/reward/total": 0.5,
    "env/all/correct": 0.25,
    "sampling/tokens_per_second": 1234.5,
}
EVALUATION = {"test/env/all/reward/total": 0.75, "test/env/all/correct": 1.0}


class Terminal(io.StringIO):
    """What was written, without escapes, as soon as it matches."""

    def __init__(self):
        super().__init__()
        self.text = ""
        self.changed = threading.Condition()

    def write(self, text):
        with self.changed:
            self.text += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
            self.changed.notify_all()
        return super().write(text)

    def forget(self):
        with self.changed:
            self.text = ""

    def wait_for(self, words):
        with self.changed:
            found = self.changed.wait_for(lambda: re.search(words, self.text), 20)
        assert found, f"{words} in {self.text}"
        return found


def shown(terminal, width=80, kind="xterm"):
    out = Terminal()
    environment = {"TERM": kind}
    console = Console(
        file=out, force_terminal=terminal, width=width, height=24, _environ=environment
    )
    return out, console


def tell(progress):
    progress.waiting("starting the sampler")
    progress.evaluated(2, EVALUATION)
    progress.begin()
    progress.group_started(4)
    progress.group_finished(4, is_dropped=False)
    progress.working("training")
    progress.step_done(2, ROW)
    progress.say("a [bracket] stays")


@pytest.mark.parametrize(("terminal", "kind"), [(False, "xterm"), (True, "dumb")])
def test_plain_lines_are_whole_and_without_escapes(terminal, kind):
    out, console = shown(terminal, kind=kind)
    with RunProgress(4, 2, console) as progress:
        tell(progress)
    assert "\x1b" not in out.getvalue()
    lines = out.getvalue().splitlines()
    assert lines[0] == "starting the sampler ..."
    assert lines[1] == "after 2 steps, test: reward 0.750  accuracy 1.000"
    assert re.fullmatch(
        r"step 3/4  reward 0\.500  accuracy 0\.250  1234 tokens/s  ETA \d+:\d\d", lines[2]
    )
    assert lines[3] == "a [bracket] stays"
    assert len(lines) == 4


def test_a_terminal_sees_the_run_live():
    out, console = shown(terminal=True)
    with RunProgress(4, 0, console, "tiny, runs/a") as progress:
        out.wait_for(r"tiny, runs/a")
        progress.expect_groups(2, [], "wait")
        progress.waiting("starting the sampler")
        out.wait_for(r"learner +starting the sampler, 0:0\d")
        progress.begin()
        progress.group_started(0)
        progress.group_started(1)
        out.wait_for(r"waits for group 0, 0:0\d under way")
        progress.group_finished(0, is_dropped=True)
        out.wait_for(
            r"waits for group 1, [^\n]*\n[^\n]*1/2 of this batch done, 1 dropped, 1 in flight"
        )
        progress.working("replaying", 3, 8)
        out.wait_for(r"learner +replaying 3/8")
        progress.group_finished(1, is_dropped=False)
        out.wait_for(r"groups +2/2 of this batch done")
        out.forget()
        progress.step_done(0, ROW)
        progress.evaluated(1, EVALUATION)
        progress.say("a [bracket] stays")
        out.wait_for(r"step 1/4 .*25%")
        out.wait_for(r"accuracy +0\.250")
        out.wait_for(r"evaluation +1\.000")
        out.wait_for(r"said +0:0\d ago: a \[bracket\] stays")
        out.wait_for(r"groups +0/2 of this batch done, 1 dropped, 0 in flight")
    assert "after 1 steps, test: reward 0.750  accuracy 1.000\n" in out.text
    last = out.text.splitlines()[-1]
    assert re.fullmatch(
        r"1 step in 0:\d\d  reward 0\.500 -> 0\.500  accuracy 0\.250 -> 0\.250  1 groups dropped",
        last,
    )


def test_earlier_starts_are_in_the_picture():
    out, console = shown(terminal=True)
    rows = [ROW | {"step": step, "env/all/reward/total": step / 8} for step in range(8)]
    with RunProgress(40, 8, console) as progress:
        progress.remember([*rows, {"step": 8, **EVALUATION}])
        progress.expect_groups(2, [16, 19], "wait")
        out.wait_for(r"reward +0\.875  ▁▂▃▄▅▆▇█")
        out.wait_for(r"evaluation +1\.000")
        out.wait_for(r"1/2 of this batch done, 0 in flight, 1 ahead")
    assert "steps in" not in out.text  # this start made none


def test_where_stragglers_are_masked_any_group_counts_for_the_batch():
    out, console = shown(terminal=True)
    with RunProgress(4, 0, console) as progress:
        progress.expect_groups(2, [5, 6, 7], "mask")
        out.wait_for(r"2/2 of this batch done, 0 in flight, 1 ahead")


def test_a_narrower_terminal_is_drawn_over():
    """Each of its lines of 80 columns is two of 50 by then."""
    out, console = shown(terminal=True)
    with RunProgress(4, 0, console) as progress:
        out.wait_for(r"groups +0/0")
        height = len(out.text.splitlines())
        before = out.getvalue().count("\x1b[1A")
        console.width = 50
        progress.working("training")
        out.wait_for(r"training")
        ups = out.getvalue().count("\x1b[1A") - before
    assert ups >= 2 * height - 1


def test_no_colour_is_written_where_none_is_wanted():
    out = Terminal()
    environment = {"TERM": "xterm-256color", "NO_COLOR": "1"}
    console = Console(file=out, force_terminal=True, width=80, _environ=environment)
    with RunProgress(4, 0, console) as progress:
        tell(progress)
        out.wait_for(r"step 3/4")
    assert not re.search(r"\x1b\[[0-9;]*\b(3[0-7]|4[0-7]|9[0-7]|38|48)[;m]", out.getvalue())


def test_an_environment_without_an_accuracy_shows_none():
    assert headline({"env/all/reward/total": 1.0}) == "reward 1.000"
    assert headline({}) == ""
