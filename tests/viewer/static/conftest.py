"""A real headless Chromium that opens pages of made runs."""

import json
import os
import shutil
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.rl.outcomes import EnvFailure, UnfinishedEpisode
from tinker_rl.types import ModelInput
from tinker_rl.viewer.page import write_page
from tinker_rl.viewer.reader import RunReader

NAMES = ("chromium", "chromium-browser", "google-chrome")
READY = "html[data-ready]"
NUM_STEPS = 6
REWARDS = [0.1, 0.25, 0.3, 0.5, 0.45, 0.75]
LATE = int(os.environ.get("TINKER_RL_LATE_PAGE_MS", 0))
"""Delays all that a page does later: finds tests that read it too early."""
HOSTILE = (
    "<!-- <script> --> \u202egnp.exe\u202c \u200b",
    "javascript:window.pwned=1 {{constructor}} ${window.pwned=1} \x00\x07",
    "<script>window.pwned=1</script>",
    "</script><img src=x onerror='window.pwned=1'>",
)
SHOW = """(fragment) => new Promise((resolve) => {
    const before = location.hash;
    window.addEventListener("hashchange", resolve, { once: true });
    location.hash = fragment;
    if (location.hash === before) resolve();
})"""
"""Follows a link within the page, and waits until the page has taken it in."""
REASON = f"OSError: {HOSTILE[-1]}"


def chromium():
    """The browser's program, or None."""
    given = os.environ.get("TINKER_RL_CHROMIUM")
    return given or next((path for name in NAMES if (path := shutil.which(name))), None)


_closing = ExitStack()
_open = []
"""The browser, while it is open."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem):
    """Closes the browser after the last test here, for its event loop is in the way of others."""
    try:
        return (yield)
    finally:
        if nextitem is None or Path(__file__).parent not in nextitem.path.parents:
            _closing.close()


@pytest.fixture(scope="module")
def page_browser():
    """One browser for all tests here that run one after the other."""
    if _open:
        return _open[0]
    api = pytest.importorskip("playwright.sync_api")
    program = chromium()
    if program is None:
        pytest.skip(f"no Chromium: none of {', '.join(NAMES)} is on PATH, no TINKER_RL_CHROMIUM")
    playwright = _closing.enter_context(api.sync_playwright())
    browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
    _closing.callback(_open.clear)
    _closing.callback(browser.close)
    _open.append(browser)
    return browser


@pytest.fixture(scope="module")
def page_open(page_browser):
    """Opens an address; the page may print nothing, raise nothing and ask nobody for anything.

    `page.show(fragment)` follows a link within it.
    """

    @contextmanager
    def open_page(address, size=(1280, 800), allowed=(), **options):
        """`allowed` are beginnings of what it may do all the same."""
        width, height = size
        context = page_browser.new_context(
            viewport={"width": width, "height": height}, reduced_motion="reduce", **options
        )
        if LATE:
            script = (Path(__file__).parent / "late.js").read_text()
            context.add_init_script(script.replace("LATE", str(LATE)))
        page = context.new_page()
        page.show = partial(page.evaluate, SHOW)
        page.set_default_timeout(15000)
        problems = []
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: problems.append(f"request: {request.url}"))
        page.goto(address)
        page.wait_for_selector(READY)
        yield page
        context.close()
        quiet = (f"request: {address.split('#')[0]}", "request: data:", *allowed)
        assert [problem for problem in problems if not problem.startswith(quiet)] == []

    return open_page


def made_run(folder, make, num_steps=NUM_STEPS):
    """A run of two groups of three a step. Group 2 is hostile, 5 was dropped, 7 was cut short."""
    folder.mkdir()
    config = {"model_name": "tiny", "learning_rate": 1e-3, "max_steps": NUM_STEPS, "seed": 3}
    (folder / "config.json").write_text(json.dumps(config))
    make.append(folder, make.start())
    for step in range(num_steps):
        add_step(folder, make, step)
    evaluations = [{"step": step, "test/env/all/correct": 0.1 * step} for step in (0, 3)]
    make.append_lines(folder / "metrics.jsonl", *evaluations)
    return folder


def add_step(folder, make, step):
    """What a run writes down in one step of ten seconds."""
    numbers = (2 * step, 2 * step + 1)
    groups = [make.group(number, outcome_of(number, make), version=step) for number in numbers]
    members = [
        (group.group, place, learner_logprobs(episode), [reward - 1 / 3])
        for group in groups
        if group.group != 5
        for place, episode in enumerate(group.outcome.group.trajectories_G)
        for reward in [episode.transitions[0].reward]
    ]
    row = {
        "step": step,
        "progress/batch": step,
        "env/all/reward/total": REWARDS[step % NUM_STEPS],
        "env/all/truncated": 0.0,
        "useful_token_fraction": 1 - 0.04 * step,
        "optim/entropy": 1 - 0.1 * step,
        "time/total": 10.0,
        "time/sampling": 7.0,
        "time/train": 2.0,
        "time/publish": 0.5,
        "own/metric": 3.0 * step,
    }
    make.append(folder, *groups, make.trained(step, *members), make.commit(step, *numbers))
    make.append_lines(folder / "metrics.jsonl", row)
    at = 1000.0 + 10 * step
    spans = [("rollout", f"group {n}", at, 6.5 + n % 2, {"group": n}) for n in numbers]
    spans += [
        ("learner", "waits for groups", at, 7.5, {"step": step, "group": numbers[1]}),
        ("learner", "trains", at + 7.5, 2.0, {"step": step}),
        ("learner", "publishes", at + 9.5, 0.5, {"step": step}),
    ]
    rows = [dict(lane=a, name=b, at=c, seconds=d, **facts) for a, b, c, d, facts in spans]
    make.append_lines(folder / "timeline.jsonl", *rows)


def outcome_of(number, make):
    if number == 5:
        unfinished = UnfinishedEpisode(
            transitions=(),
            observation=ModelInput.from_ints(make.tokenizer.encode("Roll the dice.")),
            action=TokensWithLogprobs(make.tokenizer.encode("seven"), None, policy_version=2),
        )
        failure = EnvFailure("step", "OSError", "gone", "my_env.py:12", unfinished)
        return make.dropped(failure, tags=("sums",))
    question = " ".join(HOSTILE) if number == 2 else f"What is {number} and 1?"
    text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    prompt = make.tokenizer.encode(text)
    answers = [f"needle{number}.", "no idea\nat all", question if number == 2 else "It is 🎉"]
    episodes = []
    for place, answer in enumerate(answers):
        action = make.tokenizer.encode(answer)
        logprobs = [-0.25 * (i % 8) for i in range(len(action))]
        logs = {"judge": "Almost RIGHT", "score": [1, 2.5]} if (number, place) == (3, 1) else {}
        fields = {"version": number // 2, "logprobs": logprobs, "logs": logs}
        turn = make.turn(prompt, action, float(place == 0), **fields)
        reason = "max_tokens" if number == 7 else "completed"
        episodes.append(make.episode(turn, stop_reason=reason))
    return make.rolled_out(*episodes, tags=("sums",) if number % 2 else ("words",))


def learner_logprobs(episode):
    """Half as likely, the same, twice as likely, and so on."""
    logprobs = np.array(episode.transitions[0].ac.logprobs)
    return logprobs + np.log(2.0) * (np.arange(len(logprobs)) % 3 - 1)


@pytest.fixture(scope="session")
def page_run(make, tmp_path_factory):
    """Address of the page of one made run."""
    folder = tmp_path_factory.mktemp("page")
    return write(folder, made_run(folder / "made", make))


@pytest.fixture(scope="session")
def page_runs(make, tmp_path_factory):
    """Address of the page of two: the second failed after two steps and has another seed."""
    folder = tmp_path_factory.mktemp("pages")
    first, second = made_run(folder / "first", make), made_run(folder / "second", make, 2)
    (second / "config.json").write_text(json.dumps({"model_name": "tiny", "seed": 4}))
    (second / ".lock").touch()
    end = {"lane": "run", "name": "end", "at": 1020.0, "seconds": 0.0, "error": REASON}
    make.append_lines(second / "timeline.jsonl", end)
    return write(folder, first, second)


@pytest.fixture(scope="session")
def page_make(make):
    """Makes a run's folder of so many steps, and goes on with it by a step."""
    return SimpleNamespace(
        run=lambda folder, num_steps: made_run(folder, make, num_steps),
        step=lambda folder, step: add_step(folder, make, step),
    )


@pytest.fixture(scope="session")
def page_write():
    """Writes the page of runs into a folder; gives its address."""
    return write


def write(folder, *runs, **options):
    readers = [RunReader(run) for run in runs]
    for reader in readers:
        reader.poll()
    write_page(readers, folder / "page.html", **options)
    return (folder / "page.html").as_uri()
