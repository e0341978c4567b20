"""Episodes: the list with its filters, order, search, links; one with its tokens in colours."""

import pytest

ALL = "33 of 33 episodes, 1 of 1 dropped group"


def shown(page):
    return page.text_content("#shown").replace("\u2009", "")


def column(page, name):
    """What the visible rows say in a column, in their order, once they are drawn."""
    return page.evaluate(
        """async (name) => {
            for (const _ of "12") await new Promise(requestAnimationFrame);
            return [...document.querySelectorAll('.row:not([hidden])')]
                .sort((a, b) => a.dataset.position - b.dataset.position)
                .map((row) => row.querySelector(`.${name}`).textContent);
        }""",
        name,
    )


@pytest.fixture(scope="module")
def listed(page_open, page_run):
    with page_open(f"{page_run}#tab=episodes") as page:
        page.wait_for_selector(".row")
        yield page


def go(page, fragment):
    """Opens an episode; nothing of the one before is left."""
    page.show("tab=episodes")
    page.wait_for_selector(".detail", state="hidden")
    page.evaluate(
        """(fragment) => {
            document.querySelector('.detail > .body').replaceChildren();
            location.hash = fragment;
        }""",
        fragment,
    )
    page.wait_for_selector(".turn .token, .error")


@pytest.fixture
def page(listed):
    yield listed
    listed.click("text=Clear")
    listed.wait_for_selector(f"#shown:text-is('{ALL}')")


def test_every_episode_is_in_the_list_with_its_numbers(page):
    assert shown(page) == ALL
    assert column(page, "group")[:4] == ["0", "0", "0", "1"]
    assert column(page, "member")[:4] == ["0", "1", "2", "0"]
    assert column(page, "reward")[:4] == ["1", "0", "0", "1"]
    assert column(page, "advantage")[:3] == ["+0.6667", "−0.3333", "−0.3333"]
    assert column(page, "max_ratio")[:2] == ["2.000", "2.000"]
    assert "What is 0 and 1?" in column(page, "title")[0]


@pytest.mark.parametrize(
    ("name", "number", "what", "values"),
    [
        ("reward0", "22 of 33 episodes, 0", "reward", {"0"}),
        ("truncated", "3 of 33 episodes, 0", "outcome", {"truncated"}),
        ("failed", "0 of 33 episodes, 1", "outcome", {"dropped"}),
    ],
)
def test_a_filter_narrows_the_list(page, name, number, what, values):
    chip = f".chip[data-filter={name}]"
    page.click(chip)
    page.wait_for_selector(f"#shown:text-is('{number} of 1 dropped group')")
    assert set(column(page, what)) == values
    assert page.get_attribute(chip, "aria-pressed") == "true"
    assert f"filter={name}" in page.url
    page.click(chip)
    assert shown(page) == ALL


def test_what_earned_less_than_nothing_is_found_with_what_earned_nothing(page):
    kept = """(reward) => [...Tinker.table.filter(
        { reward, count: reward.length, outcome: [], outcomes: [], tags: [] },
        { ...Tinker.filters.chosen(null), reward0: true },
    )]"""
    assert page.evaluate(kept, [1, 0, -0.025, None, 0.5]) == [1, 2]
    assert page.text_content(".chip[data-filter=reward0]") == "reward ≤ 0"


def test_filters_by_step_tag_and_version_combine(page):
    page.fill("[data-key=from]", "1")
    page.fill("[data-key=to]", "3")
    page.wait_for_selector("#shown:text-is('15 of 33 episodes, 1 of 1 dropped group')")
    page.select_option("[data-key=tag]", "words")
    page.wait_for_selector("#shown:text-is('9 of 33 episodes, 0 of 1 dropped group')")
    page.select_option("[data-key=version]", "3")
    page.wait_for_selector("#shown:text-is('3 of 33 episodes, 0 of 1 dropped group')")
    assert column(page, "group") == ["6", "6", "6"]


def test_columns_sort_both_ways_and_back(page):
    head = "[role=columnheader][data-column=reward]"
    page.click(f"{head} button")
    rewards = [float(text) for text in column(page, "reward") if text != "–"]
    assert rewards == sorted(rewards, reverse=True)
    assert page.get_attribute(head, "aria-sort") == "descending"
    page.click(f"{head} button")
    assert column(page, "reward")[0] == "0"
    assert page.get_attribute(head, "aria-sort") == "ascending"
    page.click(f"{head} button")
    assert column(page, "group")[:4] == ["0", "0", "0", "1"]


def test_the_cursor_stays_on_its_episode_when_the_order_changes(page):
    page.focus(".list")
    for _ in range(5):
        page.keyboard.press("ArrowDown")
    page.wait_for_selector(".row.cursor[data-position='4']")
    cursor = ".row.cursor .group, .row.cursor .member"
    assert page.locator(cursor).all_text_contents() == ["1", "1"]
    page.click("[role=columnheader][data-column=reward] button")
    page.wait_for_selector(".row.cursor[data-position='13']")
    assert page.locator(cursor).all_text_contents() == ["1", "1"]


def test_search_finds_prompts_and_answers_and_says_how_much_it_read(page):
    page.fill("#search", "NEEDLE7")
    page.wait_for_selector("#searched:text('1 found, 34 of 34 searched')")
    assert (column(page, "group"), column(page, "member")) == (["7"], ["0"])
    page.fill("#search", "what is 8 and")
    page.wait_for_selector("#searched:text('3 found')")
    assert column(page, "group") == ["8", "8", "8"]
    page.fill("#search", "almost right")
    page.wait_for_selector("#searched:text('1 found')")
    assert (column(page, "group"), column(page, "member")) == (["3"], ["1"])
    page.fill("#search", "score: [1,2.5]")
    page.wait_for_selector("#searched:text('1 found, 34 of 34 searched')")
    page.fill("#search", "🎉")
    page.wait_for_selector("#searched:text('10 found')")


def test_an_address_opens_one_episode_among_its_filters(page, page_run):
    go(page, "tab=episodes&group=7&member=1&filter=truncated")
    assert shown(page) == "3 of 33 episodes, 0 of 1 dropped group"
    assert page.locator(".row[aria-selected=true] .member").text_content() == "1"
    assert page.text_content("#detail-title") == "Step 3 · group 7 · member 1"
    link = "#tab=episodes&run=0&group=7&member=1&colour=advantage"
    assert page.get_attribute("#copy-link", "data-link") == page_run + link


def test_a_link_to_a_group_that_is_not_there_says_so(page):
    page.show("tab=episodes&group=99")
    page.wait_for_selector("#message:text('Group 99 is not in this run')")
    page.show("tab=episodes")


def test_a_link_to_a_run_that_is_not_there_says_so_and_is_corrected(page_open, page_run, page):
    said = "Run 7 of this link is not in this page; what is shown is made."
    page.show("tab=episodes&run=7&group=1&member=1")
    page.wait_for_selector(f"#message:text-is('{said}')")
    assert page.url == f"{page_run}#tab=episodes"
    assert page.locator(".detail").is_hidden()
    assert shown(page) == ALL
    page.click(".row[data-position='0']")
    page.wait_for_selector("#message", state="hidden")
    page.show("tab=episodes")
    with page_open(f"{page_run}#run=7&group=1") as other:
        assert other.text_content("#message") == said
        assert other.get_attribute("[role=tab][aria-selected=true]", "data-tab") == "curves"


def test_text_that_was_left_out_is_said_and_the_list_is_whole(
    page_open, page_write, page_make, tmp_path
):
    page_make.run(tmp_path / "run", 2)
    address = page_write(tmp_path, tmp_path / "run", max_mb=1e-6)
    with page_open(f"{address}#tab=episodes&group=1&member=2") as page:
        page.wait_for_selector("text=was left out to keep the file small")
        assert shown(page) == "12 of 12 episodes"
        page.fill("#search", "what is 1 and")
        page.wait_for_selector("#searched:text('of 12 only the title is here')")
        assert column(page, "group") == ["1", "1", "1"]
        page.fill("#search", "needle")
        page.wait_for_selector("text=No episode passes")


def test_back_closes_what_was_opened(page):
    page.click(".row[data-position='4']")
    page.wait_for_selector("#detail-title:text('group 1 · member 1')")
    page.go_back()
    page.wait_for_selector(".detail", state="hidden")


def colours(page):
    return page.evaluate(
        """[...document.querySelectorAll('.answer .token')]
            .map((token) => getComputedStyle(token).backgroundColor)"""
    )


def legend(page):
    """Colour of each mark of the legend, by its text."""
    marks = page.evaluate(
        """[...document.querySelectorAll('#legend .scale')]
            .map((s) => [s.textContent, getComputedStyle(s.firstElementChild).backgroundColor])"""
    )
    return dict(marks)


def hue(colour):
    return colour.split(", ")[:3]


@pytest.fixture
def opened(listed):
    go(listed, "tab=episodes&group=2&member=2")
    return listed


def choose(page, mode):
    page.click(f"[role=radio][data-mode={mode}]")
    assert page.get_attribute(f"[role=radio][data-mode={mode}]", "aria-checked") == "true"


def test_ratios_are_coloured_as_the_legend_says(opened):
    choose(opened, "ratio")
    marks = legend(opened)
    assert list(marks) == ["0.500", "0.707", "1.000", "1.414", "2.000"]
    assert len(set(marks.values())) == 5
    assert marks["1.000"].endswith(", 0)")  # nothing to see
    assert hue(marks["0.500"]) == hue(marks["0.707"]) != hue(marks["1.414"]) == hue(marks["2.000"])
    found = colours(opened)
    expected = [marks[("0.500", "1.000", "2.000")[i % 3]] for i in range(len(found))]
    assert found == expected


def test_logprobs_are_stronger_the_less_likely(opened):
    choose(opened, "logprob")
    found = colours(opened)
    assert found[0] == legend(opened)["0"]
    assert found[4] == legend(opened)["−1"]
    assert len({found[i] for i in range(8)}) == 8


def test_advantages_and_versions_have_their_colours(opened):
    choose(opened, "advantage")
    assert len(set(colours(opened))) == 1
    assert set(colours(opened)).isdisjoint({"rgba(0, 0, 0, 0)"})
    assert legend(opened)["−0.3333"] == colours(opened)[0]
    choose(opened, "version")
    assert set(colours(opened)) == {legend(opened)["version 1"]}
    choose(opened, "none")
    assert set(colours(opened)) == {"rgba(0, 0, 0, 0)"}
    assert legend(opened) == {}


def test_exact_values_are_there_for_pointer_and_keys(opened):
    opened.hover(".answer .token >> nth=2")
    assert "ratio2.000" in opened.text_content("#token-tip")
    opened.mouse.move(2, 2)
    opened.wait_for_selector("#token-tip", state="hidden")
    opened.focus(".text.prompt")
    opened.keyboard.press("Tab")
    opened.keyboard.press("ArrowRight")
    tip = opened.text_content("#token-tip")
    assert "sampler's logprob−0.25" in tip
    assert "ratio1.000" in tip
    assert "number 2" in tip
    opened.keyboard.press("End")
    assert opened.locator(".answer .token").last.get_attribute("class") == "token focus"


def test_bytes_of_one_character_are_merged_and_keep_a_span_each(opened, make):
    go(opened, "tab=episodes&group=0&member=2")
    texts = opened.locator(".answer .token").all_text_contents()
    assert "".join(texts) == "It is 🎉"
    assert len(texts) == len(make.tokenizer.encode("It is 🎉"))
    assert opened.locator(".answer .token.part").count() == texts.count("") > 0


def test_line_ends_and_special_tokens_are_seen_but_not_copied(opened):
    go(opened, "tab=episodes&group=0&member=1")
    assert opened.text_content(".answer") == "no idea\nat all"
    assert opened.locator(".answer .mark[data-shown='↵']").count() == 1
    assert opened.locator(".prompt .mark.special").all_text_contents() == [
        "<|im_start|>",
        "<|im_end|>",
        "<|im_start|>",
    ]


def test_a_dropped_group_says_why(opened):
    go(opened, "tab=episodes&group=5")
    assert "my_env.py:12" in opened.text_content(".error")
    assert opened.text_content(".detail .prompt") == "Roll the dice."
    assert opened.text_content(".detail .answer") == "seven"
    assert "the environment failed on it" in opened.text_content(".detail .turn")
    figures = opened.locator(".detail .figures div").all_text_contents()
    assert {"first version2", "tagsums"} <= set(figures)


def test_long_lists_and_long_episodes_are_in_the_document_in_part(
    page_open, page_write, make, tmp_path
):
    (token,) = make.tokenizer.encode("a")
    turn = make.turn([token] * 30000, [token] * 10000, 1.0)
    groups = [make.group(n, make.simple(*([1.0] * 20))) for n in range(10)]
    make.append(
        tmp_path, make.start(), *groups, make.group(10, make.rolled_out(make.episode(turn)))
    )
    (tmp_path / "config.json").write_text('{"model_name": "tiny"}')
    link = "#tab=episodes&run=0&group=10&member=0&colour=advantage"
    with page_open(page_write(tmp_path, tmp_path) + link) as page:
        page.wait_for_selector(".answer .token[data-i='9999']")
        page.focus(".list")
        page.keyboard.press("End")
        page.wait_for_selector(".row.cursor[data-position='200']")
        assert page.locator(".row").count() < 80
        assert page.get_attribute(".list", "aria-rowcount") == "202"
        assert len(page.text_content(".prompt")) == 20000
        page.click("text=Show the other 10\u2009000 tokens of the prompt")
        page.wait_for_selector(".prompt + .quiet", state="detached")
        page.wait_for_selector(f".prompt:has-text('{'a' * 100}')")
        assert page.evaluate("document.querySelector('.prompt').textContent.length") == 30000


def test_a_group_that_broke_itself_is_one_and_its_episodes_can_be_read(
    page_open, page_write, page_make, make, tmp_path
):
    run = page_make.run(tmp_path / "run", 1)
    text = make.tokenizer.encode
    ended = tuple(make.episode(make.turn(text("say"), text(word))) for word in ("aye", "nay"))
    make.append(run, make.group(2, make.dropped(member=None, trajectories=ended)))
    with page_open(f"{page_write(tmp_path, run)}#tab=episodes&group=2&member=1") as page:
        page.wait_for_selector(".turn .token")
        assert page.text_content(".text.answer") == "nay"
        assert "OSError: gone" in page.text_content(".detail .error")
        assert shown(page) == "6 of 6 episodes, 1 of 1 dropped group"
        assert page.locator("#badges >> text='1 group dropped'").count() == 1
