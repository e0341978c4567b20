"""How long a page of the viewer takes to be written, to open in a browser, and how it scrolls."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from made_run import make_run

from tinker_rl.viewer import RunReader, write_page

COUNTS = (100, 1_000, 10_000)
"""Episodes."""
NAMES = ("chromium", "chromium-browser", "google-chrome")
READY = "document.documentElement.dataset.ready === '1'"
FIRST_ROWS = "document.querySelectorAll('.list .row [role=gridcell]').length > 0"
SIZE = {"width": 1280, "height": 800}

LOOK = """(() => {
  const look = () => {
    const root = document.documentElement;
    if (root && (%s)) root.dataset.seenAt = performance.now();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})()"""

SCROLL = """async (pixels) => {
  const list = [...document.querySelectorAll(".list")].find((node) => node.offsetParent);
  const times = [];
  let last = performance.now();
  for (let frame = 0; frame < 180; frame += 1) {
    list.scrollTop += pixels;
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  return { times: times.slice(10), top: list.scrollTop };
}"""

Row = tuple[str, str, str]
Rows = tuple[list[Row], dict[str, float]]


def measure_opening(rounds: int) -> Rows:
    """Of pages of several sizes and of an empty one, in turns; medians."""
    with tempfile.TemporaryDirectory(prefix="tinker_rl_bench_") as name, _browser() as browser:
        folder = Path(name)
        pages = {0: _empty(folder / "empty")}
        rows: list[Row] = []
        figures: dict[str, float] = {}
        for count in COUNTS:
            pages[count], seconds, megabytes = _written(folder, count)
            rows.append((f"write {count} episodes", f"{seconds:.2f} s", f"{megabytes:.2f} MB"))
            figures |= {f"write_{count}_s": seconds, f"size_{count}_mb": megabytes}
        opened: dict[tuple[int, str], list[float]] = {}
        for place in range(rounds + 1):  # the first warms up
            for count, page in pages.items():
                for tab, until in (("curves", READY), ("episodes", FIRST_ROWS)):
                    if count or tab == "curves":
                        taken = _open(browser, page, tab, until)
                        opened.setdefault((count, tab), []).extend([taken] if place else [])
        base = statistics.median(opened[0, "curves"])
        rows.append(("open an empty page", f"{base:.3f} s", "the page of a run that did nothing"))
        figures["open_empty_s"] = base
        for count in COUNTS:
            ready, first = (opened[count, tab] for tab in ("curves", "episodes"))
            taken = statistics.median(ready)
            how = f"+{taken - base:.3f} s over the empty one; {_range(ready)}"
            rows.append((f"open {count} episodes: curves drawn", f"{taken:.3f} s", how))
            listed = statistics.median(first)
            rows.append((f"open {count} episodes: list drawn", f"{listed:.3f} s", _range(first)))
            figures |= {f"open_{count}_s": taken, f"list_{count}_s": listed}
        still, frame = (_scroll(browser, pages[COUNTS[-1]], pixels) for pixels in (0, 300))
        how = f"p95; {still:.1f} ms when nothing moves; each is 10 rows on"
        rows.append((f"frame while scrolling {COUNTS[-1]} episodes", f"{frame:.1f} ms", how))
        return rows, figures | {"scroll_p95_ms": frame, "still_p95_ms": still}


def _range(values: list[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f} s, {len(values)} times"


def _empty(folder: Path) -> Path:
    """The page of a run that has only begun."""
    folder.mkdir()
    (folder / "metrics.jsonl").touch()
    reader = RunReader(folder)
    write_page([reader], folder / "view.html")
    reader.close()
    return folder / "view.html"


def _written(folder: Path, count: int) -> tuple[Path, float, float]:
    """The page of a run, the seconds that reading it and writing took, and megabytes."""
    run = make_run(folder / str(count), count)
    began = time.perf_counter()
    reader = RunReader(run)
    reader.poll()
    summary = write_page([reader], run / "view.html")
    seconds = time.perf_counter() - began
    reader.close()
    return summary.path, seconds, summary.num_bytes / 1e6


@contextmanager
def _browser() -> Generator[Any]:
    from playwright.sync_api import sync_playwright

    given = os.environ.get("TINKER_RL_CHROMIUM")
    program = given or next((path for name in NAMES if (path := shutil.which(name))), None)
    if program is None:
        raise SystemExit(f"no Chromium: none of {', '.join(NAMES)} is on PATH; make browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def _open(browser: Any, page: Path, tab: str, until: str) -> float:
    """Seconds from the navigation until something holds, by the page's own clock."""
    context = browser.new_context(viewport=SIZE)
    opened = context.new_page()
    opened.add_init_script(LOOK % until)
    opened.goto(f"{page.as_uri()}#tab={tab}", wait_until="commit")
    opened.wait_for_selector("html[data-seen-at]", timeout=60_000)  # the page allows no eval
    seconds = float(opened.get_attribute("html", "data-seen-at")) / 1000
    context.close()
    return seconds


def _scroll(browser: Any, page: Path, pixels: int) -> float:
    """Milliseconds that 95 of 100 frames take at most, each of which scrolls the list so far."""
    context = browser.new_context(viewport=SIZE)
    opened = context.new_page()
    opened.goto(f"{page.as_uri()}#tab=episodes")
    opened.wait_for_selector(".list .row [role=gridcell]")
    found = opened.evaluate(SCROLL, pixels)
    context.close()
    assert found["top"] >= 100 * pixels, "the list did not scroll"
    return statistics.quantiles(found["times"], n=20)[-1]
