"""On paper is the view in front, all of its curves, light; the screen is then as it was."""

import pytest

DRAWN = """() => [...document.querySelectorAll('section:not([hidden]) :is(.chart, .timeline)')].map(
    (node) => {
        const canvas = node.querySelector('.paper');
        if (!canvas || !canvas.clientWidth) return 0;
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        let inked = 0;
        for (let i = 3; i < data.length; i += 4) inked += data[i] > 0;
        return inked;
    },
)"""
"""How many dots of each plot in front are not blank in print."""
LIGHT = "getComputedStyle(document.body).backgroundColor"
NUM_PANELS = "document.querySelectorAll('.panel').length"
SEEN = ["#theme", "[role=tab]", "#smooth", "#pick", ".legend .chip", ".buttons", "#search", "h1"]
"""Of these, what is for the hand is not printed."""


@pytest.fixture(scope="module")
def page(page_open, page_runs):
    """A page of two runs in the dark, so low that most of its curves are out of view."""
    with page_open(page_runs, size=(1280, 300), color_scheme="dark") as page:
        yield page


@pytest.fixture
def printed(page):
    """Opens a view and prints it; what is on paper can be looked at until the test ends."""

    def show(fragment, awaited):
        page.show(fragment)
        page.wait_for_selector(awaited)
        page.emulate_media(media="print")
        page.wait_for_selector("html.printing")
        return page

    yield show
    page.emulate_media(media="screen")
    page.wait_for_selector("html:not(.printing)")


def visible(page):
    return {
        name for name in SEEN if any(node.is_visible() for node in page.query_selector_all(name))
    }


def test_every_curve_is_printed_dark_on_white(printed):
    page = printed("tab=curves", "#view-curves canvas")
    inked = page.evaluate(DRAWN)
    assert len(inked) == page.evaluate(NUM_PANELS) == 6
    assert min(inked) > 1000
    assert page.evaluate(LIGHT) == "rgb(255, 255, 255)"
    entropy = page.evaluate("Tinker.charts.entropy.getOption().series[0].itemStyle.color")
    assert entropy == "#0072b2"
    assert visible(page) == {"[role=tab]", ".legend .chip", "h1"}
    assert page.locator("[role=tab]:visible").all_text_contents() == ["Curves"]


def test_the_plots_of_time_are_printed(printed):
    inked = printed("tab=timeline", "#view-timeline canvas").evaluate(DRAWN)
    assert len(inked) == 3
    assert min(inked) > 1000


def test_an_open_episode_is_printed_to_its_end_and_the_list_is_not(printed):
    page = printed("tab=episodes&group=2&member=2", ".turn .token")
    assert page.locator(".list").is_hidden()
    whole = "(node) => node.scrollHeight <= node.clientHeight + 1"
    assert all(page.locator(part).evaluate(whole) for part in (".detail", ".text.prompt"))
    assert visible(page) == {"[role=tab]", "h1"}


def test_the_list_is_printed_with_the_prompts(printed):
    page = printed("tab=episodes", ".row .title")
    assert page.locator(".row .title >> nth=0").evaluate("(node) => node.clientWidth") > 200
    assert visible(page) == {"[role=tab]", "h1"}


def test_a_pdf_has_every_curve_and_leaves_the_screen_as_it_was(page_open, page_runs):
    with page_open(page_runs, size=(1280, 300), color_scheme="dark") as page:
        look = f"() => {{ window.printed = [({DRAWN})(), {LIGHT}]; }}"
        page.evaluate(f"window.addEventListener('beforeprint', {look})")
        dark = page.evaluate(LIGHT)
        size = page.locator("[data-panel=reward] canvas").bounding_box()
        page.pdf(format="A4")
        inked, light = page.evaluate("window.printed")
        assert len(inked) == page.evaluate(NUM_PANELS)
        assert min(inked) > 1000
        assert (light, page.evaluate(LIGHT)) == ("rgb(255, 255, 255)", dark)
        assert page.locator(".printing, .paper").count() == 0
        assert page.locator("[data-panel=reward] canvas").bounding_box() == size
        assert page.locator("#smooth").is_visible()
