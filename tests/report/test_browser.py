"""Pages in a real browser: charts are drawn, tables sort and filter, nothing overflows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from onnxsqueeze.report import frontier
from onnxsqueeze.report.charts import charts, ranges, spreads
from onnxsqueeze.report.html import render
from tests.report import fixture
from tests.report.browser import opened

OVERFLOW = "document.scrollingElement.scrollWidth - window.innerWidth"
DRAWN = """() => Array.from(document.querySelectorAll('.chart')).every(
  chart => chart.querySelector('.cartesianlayer .trace, .cartesianlayer .bars'))"""
CONTRAST = """selector => {
  const channels = color => color.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = color => channels(color).reduce((sum, c, k) => {
    const s = c / 255, linear = s <= 0.03928 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
    return sum + [0.2126, 0.7152, 0.0722][k] * linear;
  }, 0);
  const text = light(getComputedStyle(document.querySelector(selector)).color);
  const behind = light(getComputedStyle(document.body).backgroundColor);
  return (Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05);
}"""
"""The ratio of WCAG 2.1, 1.4.3, of an element's text and the page behind it."""


@pytest.fixture(scope="module")
def browser():
    with opened() as found:
        yield found


@pytest.fixture
def visit(browser, tmp_path):
    """Return a function that opens a page and waits until it is drawn."""
    contexts = []

    def opening(html):
        path = Path(tmp_path) / "page.html"
        path.write_text(html, encoding="utf-8")
        size = {"width": 1280, "height": 900}
        place = browser.new_context(viewport=size, color_scheme="light", offline=True)
        contexts.append(place)
        page = place.new_page()
        said = []
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append("a dialog"), dialog.dismiss()))
        page.goto(path.as_uri())
        # Charts are drawn in animation frames after the script has run.
        page.wait_for_function(DRAWN)
        return SimpleNamespace(page=page, said=said)

    yield opening
    for place in contexts:
        place.close()


def many_points():
    points = tuple(
        frontier.FrontierPoint(
            max_drop=budget,
            output=f"out/{fixture.HOSTILE}-{budget:.1%}.onnx",
            sha256="0" * 64,
            is_met=budget > 0.001,
            size_bytes=3_000_000 - k * 400_000,
            metric="auto",
            drop=fixture.Interval(value=budget / 2, low=0.0, high=budget),
            speedup=None,
            speed=None,
            seconds=3.5,
            report="out/small.squeeze/1%",
        )
        for k, budget in enumerate((0.001, 0.005, 0.01, 0.05))
    )
    return frontier.Frontier(
        version="0.1.0",
        key="0",
        command="onnxsqueeze compress model.onnx --frontier 0.1%,0.5%,1%,5% -o out/small.onnx",
        original=f"models/{fixture.HOSTILE}.onnx",
        original_bytes=10_857_958,
        wanted=tuple(point.max_drop for point in points),
        points=points,
    )


PAGES = {
    "full": lambda: render(fixture.full()),
    "one weight, long hostile names": lambda: render(fixture.sized(1, fixture.LONG)),
    "1000 weights": lambda: render(fixture.sized(1000)),
    "inspect": lambda: render(fixture.inspect()),
    "bare": lambda: render(fixture.bare()),
    "frontier": lambda: frontier.render(many_points()),
}


def column(page, table, index):
    """The texts of a column in the order in which they stand, without hidden rows."""
    cells = page.locator(f"#{table} tbody tr:not([hidden]) td:nth-child({index})")
    return cells.evaluate_all("cells => cells.map(cell => cell.innerText.trim())")


def keys(page, table, index):
    cells = page.locator(f"#{table} tbody td:nth-child({index})")
    return [float(key) for key in cells.evaluate_all("cells => cells.map(c => c.dataset.sort)")]


@pytest.mark.parametrize("name", PAGES)
def test_page_is_quiet_and_fits_its_width_in_both_schemes(visit, name):
    opened = visit(PAGES[name]())

    for width in (1280, 390):
        opened.page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            opened.page.emulate_media(color_scheme=scheme)
            opened.page.wait_for_function(DRAWN)
            opened.page.wait_for_function(
                f"() => {OVERFLOW} <= 0"
            )  # charts follow a new width later
            for selector in ("h1", "td, dd"):
                assert opened.page.evaluate(CONTRAST, selector) >= 4.5
    assert opened.said == []


def test_what_a_page_says_is_heard(visit):
    opened = visit("<h1 onclick='nothing()'>x</h1><script>nothing()</script><img src='x.png'>")

    assert any("nothing is not defined" in said for said in opened.said)
    assert any("ERR_" in said for said in opened.said)


def test_every_chart_is_drawn(visit):
    report = fixture.full()
    shown = (*charts(report), *spreads(report), *ranges(report))
    page = visit(render(report)).page

    places = page.locator(".chart")
    assert places.count() == len(shown) == 15
    marks = "chart => chart.querySelectorAll('.trace path, .trace rect').length"
    assert min(places.evaluate_all(f"charts => charts.map({marks})")) > 0
    # Marks are inside of their chart: a range or scale that is off would leave it empty.
    assert page.locator("#tradeoff .scatterlayer .js-line").count() == 1
    assert page.locator("#widths .bars .point path").count() == 2 * len(report.widths)
    # The original's kernels and the result's, among them one of no time in the other.
    assert page.locator("#operators0 .bars .point path").count() == 6


def test_colours_of_charts_follow_the_scheme(visit):
    fill = "getComputedStyle(document.querySelector('#causes .bars .point path')).fill"
    page = visit(render(fixture.compress(weights=()))).page

    light = page.evaluate(fill)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"light => {fill} !== light", arg=light)


def test_table_sorts_on_click_up_then_down_with_the_unmeasured_last(visit):
    page = visit(render(fixture.full())).page
    header = page.locator("#weights-table th", has_text="Damage")

    header.get_by_role("button").click()
    damages = keys(page, "weights-table", 9)
    assert damages[:-1] == sorted(damages[:-1])
    assert damages[-1] != damages[-1]
    assert header.get_attribute("aria-sort") == "ascending"
    header.get_by_role("button").click()
    damages = keys(page, "weights-table", 9)
    assert damages[:-1] == sorted(damages[:-1], reverse=True)
    assert header.get_attribute("aria-sort") == "descending"


def test_filter_shows_rows_with_all_words_and_says_how_many(visit):
    page = visit(render(fixture.full())).page

    page.fill("#weights-filter", "matmul stage1")
    assert column(page, "weights-table", 2) == ["MatMul"]
    assert page.inner_text("#weights-table-shown") == "1 of 24 shown"
    page.fill("#weights-filter", "no such weight")
    assert column(page, "weights-table", 2) == []
    page.fill("#weights-filter", "")
    assert len(column(page, "weights-table", 2)) == 24


def test_keyboard_reaches_sort_buttons_and_enter_sorts(visit):
    page = visit(render(fixture.full())).page
    page.focus("#weights-filter")

    page.keyboard.press("Tab")  # the table itself, which scrolls
    for _ in range(4):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Before"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Enter")
    sizes = keys(page, "weights-table", 4)
    assert sizes == sorted(sizes)
    page.keyboard.press("Space")
    assert keys(page, "weights-table", 4) == sorted(sizes, reverse=True)


def test_hostile_names_do_nothing_in_a_browser(visit):
    bad = fixture.HOSTILE
    row = fixture.weights(1)[0].model_copy(update={"name": bad, "operator": bad, "reason": bad})
    widths = (fixture.WidthRow(name=bad, kept=1, count=2, reason=bad),)
    report = fixture.full().model_copy(
        update={"weights": (row,), "headline": bad, "notes": (bad,), "widths": widths}
    )
    opened = visit(render(report))

    assert opened.said == []
    assert opened.page.locator("img").count() == 0
    assert opened.page.inner_text("h1") == bad


def test_frontier_marks_what_is_not_met_and_sorts(visit):
    page = visit(frontier.render(many_points())).page

    remarks = column(page, "points", 8)
    assert remarks[0] == "budget not met: it is the original, cleaned up"
    assert remarks[1:] == ["", "", ""]
    page.locator("#points th", has_text="Size").get_by_role("button").click()
    assert column(page, "points", 1) == ["5.0%", "1.0%", "0.50%", "0.10%"]
    assert page.locator("#frontier .scatterlayer .point").count() == 5
