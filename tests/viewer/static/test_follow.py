"""Following a run that goes on: new numbers come, what the reader looks at stays.

One run, from its second step to its end; each test goes on where that before it left it.
"""

import shutil
import threading
import time
from types import SimpleNamespace

import pytest
import uvicorn

from tinker_rl.rl.log_dir import lock_log_dir
from tinker_rl.viewer.reader import RunReader
from tinker_rl.viewer.server import make_app, open_socket

OWN = "request: http://127.0.0.1:"


class Served:
    """The page of runs over HTTP, in a thread."""

    def __init__(self, *runs, waiting=()):
        self.socket = open_socket("127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}/"
        app = make_app([RunReader(run) for run in runs], waiting=waiting)
        config = uvicorn.Config(app, log_level="error", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self):
        self.server.should_exit = self.server.force_exit = True
        self.thread.join()
        self.socket.close()


@pytest.fixture(scope="module")
def served(page_make, tmp_path_factory):
    run = page_make.run(tmp_path_factory.mktemp("served") / "live", 2)
    server = Served(run)
    yield SimpleNamespace(run=run, stop=server.stop, address=server.address)
    server.stop()


@pytest.fixture(scope="module")
def page(page_open, served):
    # The browser itself says in its console that nobody answered.
    allowed = [OWN, "console: Failed to load resource"]
    with page_open(served.address, allowed=allowed) as page:
        yield page


@pytest.fixture
def go_on(page, page_make, served):
    """The run does one step more; the page is looked at again, so that it need not wait."""

    def go_on():
        number = page.evaluate("Tinker.data.page.runs[0].facts.steps_done")
        page_make.step(served.run, number)
        look_again(page)
        return number

    return go_on


def look_again(page):
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def steps(page):
    return page.evaluate("Tinker.charts.reward.getOption().series[0].data.map(([step]) => step)")


def test_following_adds_points_and_keeps_the_zoom(page, go_on):
    assert page.locator(".badge.live").count() == 1
    assert steps(page) == [0, 1]
    go_on()
    page.wait_for_selector("[data-panel=reward] .readout:has-text('0.3')")
    box = page.locator("[data-panel=reward] canvas").bounding_box()
    y = box["y"] + 80
    page.mouse.move(box["x"] + box["width"] * 0.5, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, y, steps=4)
    page.mouse.up()
    page.mouse.move(2, 2)
    zoom = "Tinker.charts.reward.getModel().getComponent('xAxis').axis.scale.getExtent()"
    before = page.evaluate(zoom)
    assert 0 < before[0] < before[1] < 3
    page.focus("#axis")
    go_on()
    page.wait_for_selector("[data-panel=reward] .readout:has-text('0.5')")
    assert steps(page) == [0, 1, 2, 3]
    assert page.evaluate(zoom) == pytest.approx(before)
    assert page.evaluate("document.activeElement.id") == "axis"
    page.click("text=Whole range")
    assert page.evaluate(zoom) == [0, 3]


def test_following_adds_spans_and_keeps_the_window(page, go_on):
    page.show("tab=timeline")
    page.wait_for_selector(".waits li >> nth=0")
    page.focus(".timeline")
    page.keyboard.press("+")
    before = page.evaluate("Tinker.gantt.window()")
    end = page.evaluate("Tinker.gantt.model().end")
    assert 0 < before[0] < before[1] < end
    number = go_on()
    page.wait_for_selector(f".waits li >> nth={number}")
    assert page.evaluate("Tinker.gantt.window()") == pytest.approx(before)
    assert page.evaluate("Tinker.gantt.model().end") == end + 10


def test_following_adds_episodes_and_keeps_the_open_one(page, go_on):
    """The last step: then there is nothing to follow."""
    page.show("tab=episodes&group=1&member=2")
    page.wait_for_selector(".turn .token")
    assert page.text_content("#shown") == "27 of 27 episodes, 1 of 1 dropped group"
    page.evaluate("document.querySelector('.turn .token').dataset.kept = 'yes'")
    go_on()
    page.wait_for_selector("#shown:text-is('33 of 33 episodes, 1 of 1 dropped group')")
    assert page.locator("[data-kept=yes]").count() == 1
    assert page.text_content(".row[aria-selected=true] .member") == "2"
    page.wait_for_selector(".badge.good:text-is('complete')")
    page.wait_for_selector(".badge.live", state="detached")


def test_a_run_that_began_anew_replaces_what_was_there(page, page_make, served):
    page.show("tab=curves")
    shutil.rmtree(served.run)
    page_make.run(served.run, 1)  # and the page finds out by itself
    page.wait_for_selector("[data-panel=reward] .readout:has-text('0.1')")
    assert steps(page) == [0]
    page.wait_for_selector(".badge.live")


def test_a_server_that_went_away_is_said_and_nothing_is_lost(page, served):
    served.stop()
    look_again(page)
    page.wait_for_selector(".badge.lost")
    assert "does not answer" in page.text_content("#message")
    assert steps(page) == [0]


def test_runs_that_begin_later_join_the_open_page(page_open, page_make, tmp_path):
    runs = [tmp_path / name for name in ("first", "second", "<i>third")]
    server = Served(waiting=runs)
    try:
        with page_open(f"{server.address}#tab=episodes&filter=reward0", allowed=[OWN]) as page:
            assert page.locator("li").all_text_contents() == [str(run) for run in runs]
            page_make.run(runs[1], 1)
            page.wait_for_selector("#shown:text-is('4 of 6 episodes')")
            assert page.title() == "second"
            assert page.text_content(".badge.waiting") == "waiting for 2 more runs"
            page.click(".row[data-position='0']")
            address = page.url
            page_make.run(runs[0], 2)
            page.wait_for_selector("#title:text-is('second, first')")
            page.wait_for_selector(".badge.waiting:text-is('waiting for one more run')")
            page.wait_for_selector("#shown:text-is('4 of 6 episodes')")
            assert page.url == address
            page.wait_for_selector(".turn .token")
    finally:
        server.stop()


def test_a_run_that_ends_before_its_first_step_is_not_waited_for_any_more(
    page_open, make, tmp_path
):
    start = {"lane": "run", "name": "start", "at": 1.0, "seconds": 0.0}
    make.append_lines(tmp_path / "timeline.jsonl", start)
    (tmp_path / ".lock").touch()
    server = Served(tmp_path)
    yet, killed = "yet: they come with the first step.", "the run was killed before there were any."
    try:
        with page_open(server.address, allowed=[OWN]) as page:
            page.wait_for_selector(f"#view-curves >> text=No metrics: {killed}")
            with lock_log_dir(tmp_path):
                page.wait_for_selector(f"#view-curves >> text=No metrics {yet}")
                page.keyboard.press("3")
                page.wait_for_selector(f"#view-episodes >> text=No episodes {yet}")
            page.wait_for_selector(f"#view-episodes >> text=No episodes: {killed}")
    finally:
        server.stop()
