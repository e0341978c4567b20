"""The page as a whole: it opens quietly, anywhere, by links and by keys, and runs no text."""

import pytest

FAINT = """() => {
    const channel = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const light = (colour) => colour.match(/[\\d.]+/g).slice(0, 3)
        .reduce((sum, v, i) => sum + channel(v / 255) * [0.2126, 0.7152, 0.0722][i], 0);
    const probe = document.body.appendChild(document.createElement('i'));
    const read = (name) => {
        probe.style.color = `var(--${name})`;
        return light(getComputedStyle(probe).color);
    };
    const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const grounds = ['bg', 'panel', 'sunk', 'raised'];
    return ['ink', 'muted', 'accent', 'good', 'bad']
        .flatMap((ink) => grounds.map((ground) => [ink, ground]))
        .filter(([ink, ground]) => ratio(read(ink), read(ground)) < 4.5);
}"""
"""The pairs of text and ground whose contrast is below 4.5."""


def shown_tab(page):
    return page.get_attribute("[role=tab][aria-selected=true]", "data-tab")


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


@pytest.fixture(scope="module")
def page(page_open, page_run):
    with page_open(page_run, color_scheme="light") as page:
        yield page


@pytest.fixture(scope="module")
def phone(page_open, page_runs):
    with page_open(page_runs, size=(390, 844), color_scheme="dark") as page:
        yield page


def test_each_view_opens_quietly_and_asks_nobody(page):
    assert page.title() == "made"
    for number, tab in enumerate(["curves", "timeline", "episodes", "run"], 1):
        page.keyboard.press(str(number))
        page.wait_for_selector(f"#view-{tab} > *")
        assert shown_tab(page) == tab
        assert page.locator("main > section:visible").count() == 1
        assert page.locator("#message").is_hidden()


def test_nothing_is_wider_than_a_phone(phone):
    for number in "1234":
        phone.keyboard.press(number)
        phone.wait_for_timeout(100)
        assert overflow(phone) == 0
    phone.show("tab=episodes&group=2&member=2")
    phone.wait_for_selector(".turn .token")
    assert overflow(phone) == 0


def test_several_runs_lie_over_each_other_in_their_colours(phone):
    phone.show("tab=curves")
    phone.wait_for_selector("[data-panel=entropy] canvas")
    series = phone.evaluate("Tinker.charts.entropy.getOption().series")
    assert [len(one["data"]) for one in series] == [6, 2]
    chips = phone.locator(".legend .chip")
    assert chips.all_text_contents() == [one["name"] for one in series] == ["first", "second"]
    assert series[0]["itemStyle"]["color"] != series[1]["itemStyle"]["color"]
    phone.locator("[data-panel=seconds]").scroll_into_view_if_needed()
    figures = phone.locator("[data-panel=seconds] .matrix")
    figures.wait_for()
    assert figures.locator("b").all_text_contents() == ["10", "7", "2", "0.5"] * 2
    assert figures.evaluate("(node) => node.scrollWidth <= node.clientWidth")
    assert phone.evaluate("Tinker.format.ratio(1 - 3.2e-7)") == "1−3.2e−7"
    chips.nth(0).click()
    series = phone.evaluate("Tinker.charts.entropy.getOption().series")
    assert [len(one["data"]) for one in series] == [2]
    chips.nth(0).click()


def test_text_of_light_and_dark_is_readable(page):
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_selector(f"html[data-theme={scheme}]")
        assert page.evaluate(FAINT) == []


def test_hostile_text_is_shown_and_does_not_run(page):
    page.show("tab=episodes&group=2&member=2")
    page.wait_for_selector(".turn .token")
    prompt, answer = page.text_content(".text.prompt"), page.text_content(".text.answer")
    for text in (prompt, answer):
        assert "<script>window.pwned=1</script>" in text
        assert "</script><img src=x onerror='window.pwned=1'>" in text
        assert "<!-- <script> -->" in text
    assert page.locator(".answer .mark.control[data-shown='U+202E']").count() == 1
    assert page.locator("main img, main script, main iframe, main a").count() == 0
    page.fill("#search", "onerror")
    page.wait_for_selector("#searched:text('34 of 34')")
    assert page.evaluate("window.pwned") is None


def test_what_was_dropped_is_counted_and_opens_the_list_of_it(page):
    page.show("tab=curves")
    page.click("#badges >> text='1 group dropped'")
    page.wait_for_selector("#shown:text-is('0 of 33 episodes, 1 of 1 dropped group')")
    assert page.text_content(".row .outcome") == "dropped"
    assert page.locator("#badges >> text='6 of 6 steps'").count() == 1
    assert page.locator("#badges >> text='33 episodes'").count() == 1


def test_the_theme_is_the_readers_choice_and_is_kept(page):
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.click("#theme")
    page.click("#theme")
    assert page.get_attribute("html", "data-theme") == "dark"
    assert page.evaluate(background) != light
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.get_attribute("html", "data-theme") == "dark"


def test_keys_alone_reach_everything_and_the_focus_is_seen(page):
    press = page.keyboard.press
    page.show("tab=curves")
    first = "document.querySelector('a[href], button, input, [tabindex]')"
    assert page.evaluate(f"{first}.className") == "skip"
    press("Tab")
    page.focus(".skip")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.focus("#tab-curves")
    press("ArrowRight")
    press("ArrowRight")
    assert shown_tab(page) == "episodes"
    page.wait_for_selector(".row[data-position='0']")
    page.focus(".list")
    press("ArrowDown")
    press("ArrowDown")
    press("Enter")
    page.wait_for_selector("#detail-title:text('group 0 · member 1')")
    press("j")
    page.wait_for_selector("#detail-title:text('group 0 · member 2')")
    press("k")
    press("k")
    page.wait_for_selector("#detail-title:text('group 0 · member 0')")
    press("Escape")
    assert page.locator(".detail").is_hidden()
    press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    press("Escape")
    press("?")
    assert page.locator("dialog[open]").count() == 1
    press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_states_and_options_of_runs_are_shown_and_differences_marked(phone):
    phone.show("tab=run")
    each = phone.locator("#badges .each").all_text_contents()
    assert each == ["firstcomplete1 group dropped", "secondfailed"]
    second = phone.locator(".facts >> nth=1")
    assert second.locator(".badge.failed").text_content() == "failed"
    assert "OSError: </script><img src=x onerror=" in second.locator(".reason").text_content()
    assert phone.locator(".facts .badge.failed").count() == 1
    differing = phone.locator("tr.differs th").all_text_contents()
    assert differing == ["learning_rate", "max_steps", "seed"]
    phone.check("text=only differences")
    assert phone.locator("#view-run tbody tr").count() == 3
    assert phone.locator("tr:has-text('seed') td").all_text_contents() == ["3", "4"]


def test_runs_of_nothing_but_metrics_say_what_is_missing_and_which_they_are(
    page_open, page_write, make, tmp_path
):
    runs = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    for run in runs:
        run.mkdir(parents=True)
        make.append_lines(run / "metrics.jsonl", {"step": 0, "train_mean_nll": 2.5})
    with page_open(page_write(tmp_path, *runs, runs[1])) as page:
        names = page.locator(".legend .chip").all_text_contents()
        assert names == ["a/run", "b/run (1)", "b/run (2)"]
        assert page.text_content(".badge.note") == f"6 notes on {', '.join(names)}"
        assert page.locator("[data-panel=nll] .readout b").all_text_contents() == ["2.5"] * 3
        page.keyboard.press("2")
        page.wait_for_selector("text=no timeline.jsonl")
        page.keyboard.press("3")
        page.wait_for_selector("text=No episodes yet")


def test_what_cannot_be_read_is_said_where_it_is_missed(page_open, page_write, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("metrics.jsonl", "timeline.jsonl"):
        (run / name).mkdir()
    (run / "config.json").write_text("{")
    (run / "journal.bin").write_text("a diary\n")
    with page_open(page_write(tmp_path, run)) as page:
        for tab, said in (
            ("curves", "metrics.jsonl cannot be read (Is a directory)"),
            ("timeline", "timeline.jsonl cannot be read (Is a directory)"),
            ("episodes", "expected the beginning of a journal"),
            ("run", "config.json cannot be read: the notes say why."),
        ):
            page.show(f"tab={tab}")
            page.wait_for_selector(f"#view-{tab} >> text={said}")


def test_long_names_of_runs_fit_a_phone_and_are_told_apart(
    page_open, page_write, page_make, tmp_path
):
    names = [f"qwen3-8b-gsm8k-lr-{rate}-group-16-importance-sampling" for rate in ("1e-4", "3e-4")]
    runs = [page_make.run(tmp_path / name, 1) for name in names]
    with page_open(page_write(tmp_path, *runs), size=(390, 844)) as page:
        brief = [f"…{rate}-group-16-importance-sampling" for rate in ("1e-4", "3e-4")]
        shown = page.locator("[data-panel=reward] .readout .name")
        assert shown.all_text_contents() == brief
        assert [node.get_attribute("title") for node in shown.all()] == names
        for number in "1234":
            page.keyboard.press(number)
            page.wait_for_selector("main > section:visible > *")
            assert overflow(page) == 0


def test_runs_that_ended_before_their_first_step_are_not_waited_for(
    page_open, page_write, make, tmp_path
):
    killed = {"lane": "run", "name": "start", "at": 1.0, "seconds": 0.0}
    error = killed | {"name": "end", "error": "OSError: gone"}
    interrupted = killed | {"name": "end", "interrupted": True}
    runs = [tmp_path / str(number) for number in range(7)]
    for run, last in zip(runs, [error, interrupted, killed, *[killed] * 4], strict=True):
        run.mkdir()
        (run / ".lock").touch()
        make.append_lines(run / "timeline.jsonl", last)
    none = "#view-curves .empty"
    with page_open(page_write(tmp_path, runs[0])) as page:
        assert page.text_content(none) == "No metrics: the run failed before there were any."
        page.keyboard.press("3")
        page.wait_for_selector("text=No episodes: the run failed before there were any.")
    with page_open(page_write(tmp_path, *runs)) as page:
        assert page.text_content(none) == "No metrics: each run ended before there were any."
        badges = page.locator("#badges .badge:not(.note)").all_text_contents()
        assert badges == ["1 failed", "1 interrupted", "5 killed"]
