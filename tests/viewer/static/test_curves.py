"""Curves and the view of time: they show the run's own numbers, and who waited for whom."""

import json

import pytest

REWARDS = [0.1, 0.25, 0.3, 0.5, 0.45, 0.75]
STEPS = range(6)


def data_of(page, chart, series=0):
    """The points of a plot, as the library has them."""
    return page.evaluate(
        "([chart, series]) => Tinker.charts[chart].getOption().series[series].data", [chart, series]
    )


def readout(page, panel):
    return page.text_content(f"[data-panel='{panel}'] .readout")


@pytest.fixture(scope="module")
def page(page_open, page_run):
    with page_open(page_run) as page:
        yield page


@pytest.fixture
def curves(page):
    page.show("tab=curves")
    page.wait_for_selector("#view-curves canvas >> nth=0")
    return page


def test_curves_have_the_runs_numbers(curves):
    assert data_of(curves, "reward") == [[step, REWARDS[step]] for step in STEPS]
    assert data_of(curves, "entropy") == [[step, 1 - 0.1 * step] for step in STEPS]
    assert data_of(curves, "correct") == [[0, 0], [3, 0.1 * 3]]
    assert readout(curves, "reward") == "0.75"


def test_what_a_run_has_no_numbers_for_is_not_there(curves):
    assert curves.locator("[data-panel=reward]").count() == 1
    assert curves.locator("[data-panel=kl], [data-panel=nll], [data-panel=age]").count() == 0


def test_what_is_out_of_view_is_drawn_when_the_browser_is_idle(page_open, page_run):
    with page_open(page_run, size=(1280, 300)) as page:
        page.wait_for_selector(".panel .chart:empty", state="detached")
        assert page.evaluate("scrollY") == 0
        assert page.locator(".panel canvas").count() == page.locator(".panel").count() == 6


def test_both_estimates_of_kl_are_seen_though_one_is_tiny(page_open, page_write, make, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    values = [(2e-8, 4e-13), (-3e-8, 9e-13)]
    for step, (v1, v2) in enumerate(values):
        kl = {"optim/kl_sample_train_v1": v1, "optim/kl_sample_train_v2": v2}
        make.append_lines(run / "metrics.jsonl", {"step": step, **kl})
    extent = "Tinker.charts['{}'].getModel().getComponent('yAxis').axis.scale.getExtent()"
    with page_open(page_write(tmp_path, run, run), size=(1500, 900)) as page:
        for panel, numbers in zip(("kl", "kl-v2"), zip(*values, strict=True), strict=True):
            assert [y for _, y in data_of(page, panel)] == list(numbers)
            low, high = page.evaluate(extent.format(panel))
            assert high - low < 5 * (max(numbers) - min(numbers))
        cut = "(node) => node.scrollWidth > node.clientWidth"
        assert not any(head.evaluate(cut) for head in page.query_selector_all(".panel header *"))


def test_the_pointer_reads_all_panels_at_its_step(curves):
    curves.focus("[data-panel=reward] .chart")
    curves.keyboard.press("Home")
    curves.keyboard.press("ArrowRight")
    curves.wait_for_selector("[data-panel=reward] .hint:text('step 1')")
    assert (readout(curves, "reward"), readout(curves, "entropy")) == ("0.25", "0.9")
    box = curves.locator("[data-panel=entropy] canvas").bounding_box()
    curves.mouse.move(box["x"] + box["width"] - 14, box["y"] + 60)
    curves.wait_for_selector("[data-panel=reward] .hint:text('step 5')")
    assert (readout(curves, "reward"), readout(curves, "entropy")) == ("0.75", "0.5")
    curves.mouse.move(5, 5)
    curves.wait_for_selector("[data-panel=reward] .hint:text('mean return')")


def test_smoothing_keeps_the_raw_numbers_beneath(curves):
    curves.fill("#smooth", "0.5")
    smooth = data_of(curves, "reward")
    assert smooth[0] == [0, pytest.approx(0.1)]
    assert smooth[1] == [1, pytest.approx((0.5 * 0.1 * 0.5 + 0.5 * 0.25) / 0.75)]
    assert data_of(curves, "reward", 1) == [[step, REWARDS[step]] for step in STEPS]
    curves.fill("#smooth", "0")
    assert data_of(curves, "reward")[1] == [1, 0.25]


def test_the_axis_of_shares_ends_at_1(curves):
    axis = "Tinker.charts.{}.getModel().getComponent('yAxis').axis.scale.getExtent()"
    assert curves.evaluate(axis.format("truncated")) == [0, 1]
    assert curves.evaluate(axis.format("useful"))[1] == 1
    assert curves.evaluate(axis.format("correct"))[1] < 0.5


def test_a_logarithmic_scale_leaves_out_what_has_no_logarithm(curves):
    curves.check("#log")
    axis = "Tinker.charts.correct.getOption().yAxis[0].type"
    assert curves.evaluate(axis) == "log"
    assert data_of(curves, "correct")[0] == [0, None]
    curves.uncheck("#log")
    assert curves.evaluate(axis) == "value"


def test_what_a_logarithmic_scale_leaves_out_is_read_and_counted(
    page_open, page_write, make, tmp_path
):
    run = tmp_path / "run"
    run.mkdir()
    rows = [(0.2, 3e-13), (-0.5, 0.0), (0.9, 0.02), (0.0, 0.0)]
    for step, (reward, kl) in enumerate(rows):
        numbers = {"env/all/reward/total": reward, "optim/kl_sample_train_v2": kl, "loss": -1.0}
        make.append_lines(run / "metrics.jsonl", {"step": step, **numbers})
    labels = """(chart) => Tinker.charts[chart].getModel().getComponent('yAxis').axis
        .getViewLabels().map((label) => label.formattedLabel)"""
    undrawn = "[data-panel='{}'] .undrawn"
    with page_open(page_write(tmp_path, run) + "#tab=curves&log=1") as page:
        page.wait_for_selector(".panel .chart:empty", state="detached")
        assert data_of(page, "reward") == [[0, 0.2], [1, None], [2, 0.9], [3, None]]
        for panel in ("reward", "kl-v2"):
            assert readout(page, panel) == "0"
            assert page.text_content(undrawn.format(panel)) == "2 values ≤ 0 not drawn"
        assert page.evaluate(labels, "reward") == ["0.2", "0.5", "1"]
        assert page.evaluate(labels, "kl-v2")[0] == "1e−13"
        assert page.evaluate(labels, "kl-v2")[-1] == "0.1"
        page.focus("[data-panel=reward] .chart")
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        page.wait_for_selector("[data-panel=reward] .readout b:text-is('−0.5')")
        page.uncheck("#log")
        assert page.locator(".undrawn:visible").count() == 0
        assert data_of(page, "reward")[1] == [1, -0.5]
        assert float(page.evaluate(labels, "reward")[0].replace("−", "-")) <= -0.5


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.55, 1.05], [0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1]),
        ([0.3, 7], [0.2, 0.5, 1, 2, 5, 10]),
        ([3], [2, 5]),
        ([1], [0.5, 1, 2]),
        ([0.01, 1], [0.01, 0.1, 1]),
        ([3e-8, 4, 0], [1e-8, 1e-6, 1e-4, 0.01, 1, 100]),
        ([1e-300, 1e300], [1e-300, 1e-200, 1e-100, 1, 1e100, 1e200, 1e300]),
        ([0, -1], None),
    ],
)
def test_ticks_of_a_logarithmic_scale_are_as_many_as_have_room(page, values, ticks):
    assert page.evaluate("(values) => Tinker.logscale.ticks(values)", values) == ticks


def test_curves_go_over_seconds_of_training_too(curves):
    curves.select_option("#axis", "time")
    assert data_of(curves, "reward")[:2] == [[10, 0.1], [20, 0.25]]
    assert data_of(curves, "correct") == [[0, 0], [30, 0.1 * 3]]
    curves.select_option("#axis", "step")


def test_any_metric_can_be_found_by_name_and_added(curves):
    curves.click("#pick")
    curves.fill(".sheet input[type=search]", "own met")
    assert curves.locator(".sheet li").all_text_contents() == ["own/metric"]
    curves.check(".sheet li input")
    curves.keyboard.press("Escape")
    curves.wait_for_selector("[data-section=Picked] canvas")
    assert data_of(curves, "metric:own/metric") == [[step, 3.0 * step] for step in STEPS]
    assert "metrics=own" in curves.url
    curves.click("[data-section=Picked] header button")
    assert curves.locator("[data-section=Picked]").count() == 0


@pytest.fixture
def timeline(page):
    """The whole timeline, whatever a test before has done."""
    page.show("tab=timeline")
    page.wait_for_selector("#view-timeline .waits li >> nth=0")
    page.click("button:text-is('All')")
    return page


def test_shares_of_time_are_those_of_the_run(timeline):
    names = timeline.evaluate("Tinker.charts.shares.getOption().series.map((s) => s.name)")
    learner = [data_of(timeline, "shares", n)[0] for n in range(len(names))]
    assert dict(zip(names, learner, strict=True)) == {
        "waits for groups": pytest.approx(0.75),
        "trains": pytest.approx(0.2),
        "publishes": pytest.approx(0.05),
    }
    assert data_of(timeline, "step-times") == [7.0] * 6


def test_the_timeline_says_who_waited_for_whom(timeline):
    pixel = "(x) => Tinker.charts.timeline.convertToPixel({ gridIndex: 0 }, x)"
    box = timeline.locator(".timeline").bounding_box()

    def move(time, row):
        x, y = timeline.evaluate(pixel, [time, row])
        timeline.mouse.move(box["x"] + x, box["y"] + y)
        return timeline.text_content(".tip:visible")

    assert move(24.0, 10).startswith("Learner waited 7.5 s for group 5")
    assert move(28.5, 10).startswith("Learner trains: 2 s")
    timeline.click(".waits button >> nth=0")
    assert "Learner waited 7.5 s for group" in timeline.text_content("#view-timeline .found")
    timeline.click("#view-timeline .found button")
    timeline.wait_for_selector("#detail-title:text('group')")
    assert "tab=episodes" in timeline.url


@pytest.fixture
def restarted(page_write, page_make, make, tmp_path):
    """Address of a run of 10 s, from 0, 20 and 10000 s; it ended once, and was killed once."""
    run = page_make.run(tmp_path / "run", 1)
    spans = [json.loads(line) for line in (run / "timeline.jsonl").read_text().splitlines()]
    (run / "timeline.jsonl").unlink()
    for offset, last in ((0, "end"), (20, None), (10_000, None)):
        moved = [span | {"at": span["at"] + offset, "step": offset} for span in spans]
        marks = [{"lane": "run", "name": "start", "at": 1000 + offset, "seconds": 0}]
        if last:
            marks.append({"lane": "run", "name": last, "at": 1010 + offset, "seconds": 0})
        make.append_lines(run / "timeline.jsonl", *marks, *moved)
    return page_write(tmp_path, run)


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_the_time_in_which_no_process_ran_is_cut_out_of_the_axis(page_open, restarted, size):
    cuts = """Tinker.gantt.model().cuts.map(({ from, to, ended, shown }) =>
        [from, to, ended, ...shown.map((x) => Number(x.toFixed(6)))])"""
    pixel = "(x) => Tinker.charts.timeline.convertToPixel({ gridIndex: 0 }, x)"
    labels = """Tinker.charts.timeline.getZr().storage.getDisplayList()
        .filter((one) => one.type === 'tspan').map((one) => one.style.text)"""
    with page_open(restarted + "#tab=timeline", size=size) as page:
        page.wait_for_selector("#view-timeline canvas >> nth=0")
        assert page.evaluate(cuts) == [
            [10, 20, True, 10, 11.2],
            [30, 10_000, False, 21.2, 22.4],
        ]
        assert page.evaluate("Tinker.gantt.window()") == [0, pytest.approx(32.4)]
        drawn = page.evaluate(labels)
        for words in ("⋯ 10 s", "⋯ 2 h 46 min"):
            assert any(text.startswith(words) for text in drawn)

        def told(place):
            x, y = page.evaluate(pixel, [place, 10])
            page.locator(".timeline").hover(position={"x": x, "y": y})
            return page.text_content(".tip:visible")

        assert told(10.6) == "10 s not running"
        assert told(21.8) == "2 h 46 min nothing recorded"
        tip = told(23.0)
        assert tip.startswith("Learner waited 7.5 s")
        assert "beginsat 2 h 46 min" in tip
        page.keyboard.press("n")
        assert page.evaluate("Tinker.gantt.window()")[1] < 12


@pytest.mark.parametrize(
    ("starts", "gone"),
    [([0, 10.5], []), ([0, 13], [3]), ([0, 10.5, 99, 200], [78.5, 91]), ([5], []), ([], [])],
)
def test_only_long_gaps_are_cut_and_moments_keep_their_order(page, starts, gone):
    """Each process works for 10 s."""
    times = [at for start in starts for at in (start, start)]
    found = page.evaluate(
        """([start, lane, seconds]) => {
            const texts = { lanes: ["run", "learner"], names: ["start", "works"] };
            const one = Tinker.gaps.of({ ...texts, lane, name: lane, start, seconds });
            const moments = Array.from({ length: 900 }, (_, i) => i / 4);
            const places = moments.map(one.shown);
            return {
                gone: one.cuts.map(({ from, to }) => to - from),
                sorted: places.every((x, i) => !i || x > places[i - 1]),
                error: Math.max(...places.map((x, i) => Math.abs(one.real(x) - moments[i]))),
            };
        }""",
        [times, [0, 1] * len(starts), [0, 10] * len(starts)],
    )
    assert found == {"gone": gone, "sorted": True, "error": pytest.approx(0, abs=1e-6)}


def test_shares_have_words_where_they_have_room(page_open, page_run):
    words = """Tinker.charts.shares.getZr().storage.getDisplayList()
        .filter((one) => one.type === 'tspan' && one.style.text.endsWith('%'))
        .map((one) => [one.style.text, one.getBoundingRect().width])"""
    for width, shown in ((1280, ["75 %", "20 %", "5 %"]), (390, ["75 %", "20 %"])):
        with page_open(page_run + "#tab=timeline", size=(width, 844)) as page:
            page.wait_for_selector("#view-timeline canvas >> nth=0")
            found = page.evaluate(words)
            assert [text for text, _ in found] == shown
            bar = page.evaluate("Tinker.charts.shares.getWidth()") - 74
            assert all(room < bar * float(text[:-1]) / 100 for text, room in found)


def test_the_timeline_zooms_and_pans_by_wheel_and_keys(timeline):
    window = "Tinker.gantt.window()"
    assert timeline.evaluate(window) == [0, 60]
    timeline.keyboard.press("+")
    start, end = timeline.evaluate(window)
    assert (start, end) == (pytest.approx(12), pytest.approx(48))
    timeline.keyboard.press("ArrowRight")
    assert timeline.evaluate(window)[0] == pytest.approx(19.2)
    timeline.keyboard.press("0")
    assert timeline.evaluate(window) == [0, 60]
    box = timeline.locator(".timeline").bounding_box()
    timeline.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    timeline.mouse.wheel(0, -300)
    timeline.wait_for_timeout(150)
    start, end = timeline.evaluate(window)
    assert 0 < start < end < 60


def test_the_keys_of_time_work_as_soon_as_it_is_in_front(page_open, page_run):
    """By keyboard alone, from the page as it opens, in a window that does not show the timeline."""
    window = "Tinker.gantt.window()"
    with page_open(page_run, size=(1280, 300)) as page:
        press = page.keyboard.press
        press("2")
        page.wait_for_selector("#view-timeline canvas >> nth=0")
        press("+")
        assert page.evaluate(window) == [pytest.approx(12), pytest.approx(48)]
        press("ArrowLeft")
        assert page.evaluate(window)[0] == pytest.approx(4.8)
        press("0")
        assert page.evaluate(window) == [0, 60]
        press("n")
        press("n")
        said = page.locator("#view-timeline .found")
        assert said.text_content().startswith("Learner waited 7.5 s for group 3")
        box = said.bounding_box()
        assert page.locator("header.top").bounding_box()["height"] <= box["y"] <= 300
        press("p")
        press("Enter")
        page.wait_for_selector("#detail-title:text('group 1 · member 0')")
        page.focus("#tab-episodes")
        press("ArrowLeft")
        assert page.get_attribute("[role=tab][aria-selected=true]", "data-tab") == "timeline"
        press("ArrowLeft")  # the tabs have the focus, and arrows of their own
        assert page.get_attribute("[role=tab][aria-selected=true]", "data-tab") == "curves"
        assert page.evaluate(window) != [0, 60]


def test_a_click_on_a_rollout_opens_its_group(timeline):
    row = "Tinker.gantt.model().rows.find((r) => r.spans.some((s) => s.name === 'group 6')).y + 3"
    pixel = f"Tinker.charts.timeline.convertToPixel({{ gridIndex: 0 }}, [32, {row}])"
    x, y = timeline.evaluate(pixel)
    timeline.locator(".timeline").click(position={"x": x, "y": y})
    timeline.wait_for_selector("#detail-title:text('group 6 · member 0')")
