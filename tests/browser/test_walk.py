"""A walk through the dashboard, as people take it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import PHONE, Opener, Site

PAGES = (
    "/",
    "/insights",
    "/models/cache",
    "/models/speed",
    "/usage",
    "/usage?by=user",
    "/conversations",
    "/models",
    "/budgets",
    "/prices",
    "/keys",
)


def test_one_logs_in_and_out(opened: Opener, site: Site) -> None:
    """A page that was asked for comes after the login; the way back is closed after the logout."""
    page = opened(key=None)
    page.goto("/usage?by=user")
    expect(page).to_have_title(re.compile("^Log in"))
    page.get_by_label("API key").fill(site.reader)
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", level=1)).to_have_text("Usage")
    assert page.url == f"{site.url}/usage?by=user"
    expect(page.get_by_role("link", name="Keys")).to_have_count(0)
    [session] = [c for c in page.context.cookies() if c["name"] == "agentsight_session"]
    assert (session["httpOnly"], session["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""

    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_title(re.compile("^Log in"))
    page.goto("/")
    expect(page).to_have_title(re.compile("^Log in"))


def test_filters_narrow_what_is_seen(opened: Opener) -> None:
    """They are in the address, can be taken away, and go along to other pages."""
    page = opened()
    page.get_by_label("Time range").select_option("7d")
    expect(page).to_have_url(re.compile(r"\?range=7d&"))
    expect(page.locator(".tile").nth(2)).to_contain_text("vs. the 7 days before")

    page.get_by_text("Filter", exact=True).click()
    page.get_by_label("Where").select_option("user")
    page.get_by_label("is", exact=True).fill("user-1")
    page.get_by_role("button", name="Add filter").click()
    expect(page.locator(".chip")).to_have_text("user user-1")
    expect(page.get_by_role("region", name="Spend by day and model")).to_have_count(0)
    assert page.get_by_role("link", name="user-2").count() == 0

    page.get_by_role("link", name="Usage", exact=True).click()
    expect(page.locator(".chip")).to_have_text("user user-1")
    page.get_by_label("Time zone").fill("America/New_York")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("zone=America%2FNew_York"))
    page.get_by_role("link", name="Remove the filter user user-1").click()
    expect(page.locator(".chip")).to_have_count(0)
    assert "range=7d" in page.url


def test_days_can_be_chosen(opened: Opener) -> None:
    """The inputs for dates appear with the choice."""
    page = opened()
    page.get_by_label("Time range").select_option("custom")
    page.get_by_label("First day").fill("2026-01-01")
    expect(page).to_have_url(re.compile("since=2026-01-01"))
    page.get_by_label("Time range").select_option("30d")
    expect(page.get_by_label("First day")).to_have_count(0)
    page.go_back()
    expect(page.get_by_label("First day")).to_have_value("2026-01-01")


def test_a_date_can_be_typed(opened: Opener) -> None:
    """Nothing is asked while its digits, of which each may make a date, are still being typed."""
    page = opened()
    page.get_by_label("Time range").select_option("custom")
    page.get_by_label("First day").focus()
    page.keyboard.type("0213")
    page.wait_for_timeout(300)  # What a digit asked for would be here by then.
    page.keyboard.type("2026")
    assert "since=" not in page.url
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("since=2026-02-13"))
    expect(page.get_by_label("First day")).to_be_focused()

    page.keyboard.press("ArrowUp")
    page.get_by_label("Last day").focus()
    page.keyboard.type("03142026")
    page.get_by_label("Time zone").focus()
    expect(page).to_have_url(re.compile("since=2026-03-13&until=2026-03-14"))
    expect(page.get_by_label("Time zone")).to_be_focused()


def test_the_last_choice_is_what_is_shown(opened: Opener) -> None:
    """Also when the answer to the choice before it is still on its way."""
    page = opened()
    held: list[Route] = []
    # Not `held.append` itself: Playwright marks what it is given, and that takes no mark.
    page.route("**/?range=7d*", lambda route: held.append(route))
    for choose, shown in (
        (lambda: page.get_by_label("Time range").select_option("90d"), "range=90d"),
        (lambda: page.get_by_role("link", name="Tokens", exact=True).click(), "metric=tokens"),
    ):
        with page.expect_request("**/?range=7d*"):
            page.get_by_label("Time range").select_option("7d")
        choose()
        held.pop().continue_()
        expect(page).to_have_url(re.compile(shown))
        page.wait_for_timeout(200)
        assert "range=7d" not in page.url
        expect(page.get_by_label("Time range")).to_have_value("90d")


def test_a_choice_counts_as_soon_as_it_can_be_made(opened: Opener) -> None:
    """A form that has just come in answers at once."""
    page = opened()
    page.evaluate(
        """new MutationObserver((_, observer) => {
            if (!document.querySelector("#since")) return;
            observer.disconnect();
            const range = document.querySelector("#range");
            range.value = "90d";
            range.dispatchEvent(new Event("change", { bubbles: true }));
        }).observe(document.body, { childList: true, subtree: true })"""
    )
    page.get_by_label("Time range").select_option("custom")
    expect(page).to_have_url(re.compile("range=90d"))
    expect(page.get_by_label("First day")).to_have_count(0)


def test_one_drills_down_to_a_call(opened: Opener) -> None:
    """From the overview to a user, to a conversation, to its calls."""
    page = opened()
    page.get_by_role("link", name="user-3").click()
    expect(page.locator(".chip")).to_have_text("user user-3")
    page.get_by_role("navigation", name="Group by").get_by_text("More").click()
    page.get_by_role("link", name="Conversation", exact=True).click()
    page.get_by_role("link", name="conversation-03").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("conversation-03")
    expect(page.locator(".call")).to_have_count(10)
    expect(page.locator(".call").first).to_contain_text("planner")


def test_more_rows_come_without_a_new_page(opened: Opener) -> None:
    """Each conversation once; the focus is not lost."""
    page = opened()
    page.get_by_role("link", name="Conversations", exact=True).click()
    expect(page.locator("#rows th")).to_have_count(50)
    page.get_by_role("link", name="Show more").click()
    expect(page.locator("#rows th")).to_have_count(60)
    names = page.locator("#rows th").all_inner_texts()
    assert len({*names}) == 60
    page.get_by_role("link", name="Costliest").click()
    expect(page.locator("#rows th")).to_have_count(50)


def test_the_chart_says_what_its_table_does(opened: Opener) -> None:
    """Under the pointer, in the table beneath it, and for another metric."""
    page = opened()
    plot = page.locator(".chart-plot .u-over")
    box = plot.bounding_box()
    assert box is not None
    plot.hover(position={"x": box["width"] * 0.6, "y": box["height"] / 2})
    expect(page.locator(".chart-tip")).to_be_visible()
    day = page.locator(".chart-tip .tip-head").inner_text()
    shown = page.locator(".chart-tip p:not(.tip-head) .figure").all_inner_texts()
    page.get_by_text("Show as a table").click()
    cells = (
        page.locator("figure table").get_by_role("row", name=day).locator("td").all_inner_texts()
    )
    assert sorted(shown) == sorted(c for c in cells if re.search("[1-9]", c))

    page.get_by_role("link", name="Calls", exact=True).click()
    expect(page.get_by_role("heading", name="Calls by day and model")).to_be_visible()
    expect(page.locator(".chart-plot canvas")).to_have_count(1)


def test_a_csv_is_downloaded(opened: Opener, tmp_path: Path) -> None:
    """By its link."""
    page = opened()
    page.goto("/usage?by=feature&range=all")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    download.value.save_as(tmp_path / "usage.csv")

    assert download.value.suggested_filename == "usage-by-feature.csv"
    heading, *rows = (tmp_path / "usage.csv").read_text().split()
    assert heading.startswith("feature,input_tokens,")
    assert sorted(row.split(",")[0] for row in rows) == ["chat", "search"]


def test_keys_are_made_and_revoked(opened: Opener, site: Site) -> None:
    """The secret is shown once; revoking is asked for twice."""
    page = opened()
    page.get_by_role("link", name="Keys").click()
    page.get_by_label("Name").fill("from the browser")
    page.get_by_label("read").check()
    page.get_by_role("button", name="Make key").click()
    secret = page.get_by_label("The secret").input_value()
    assert secret.startswith("ats_")
    expect(page.get_by_role("row", name="from the browser")).to_contain_text("valid")
    assert opened(key=secret).title().startswith("Overview")

    row = page.get_by_role("row", name="spare")
    row.get_by_text("Revoke", exact=True).click()
    row.get_by_role("button", name="Revoke the key").click()
    expect(page.get_by_role("row", name="spare")).to_contain_text("revoked")
    expect(page.get_by_label("The secret")).to_have_count(0)


def test_a_budget_is_made_changed_and_forgotten(opened: Opener) -> None:
    """What is used and left of it is seen at once, and on the overview."""
    page = opened()
    page.get_by_role("link", name="Budgets").click()
    page.get_by_text("New budget").click()
    page.get_by_label("Name").fill("Users of the month")
    page.get_by_label("Limit in USD").fill("2")
    page.locator("select[name=scope]").select_option("user")
    page.get_by_label("Alert at, in percent").fill("1, 100")
    page.get_by_role("button", name="Make budget").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Users of the month")
    expect(page.get_by_role("heading", name="What is left by day")).to_be_visible()
    expect(page.locator(".chart-plot canvas")).to_have_count(1)

    page.goto("/")
    page.get_by_role("link", name="Users of the month").click()
    page.get_by_text("Change or delete").click()
    page.get_by_label("Limit in USD").fill("lots")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("must be a number, not 'lots'")
    page.get_by_label("Limit in USD").fill("0.001")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".budget-limit").first).to_contain_text("of $0.0010")
    page.get_by_text("Change or delete").click()
    page.get_by_role("button", name="Delete the budget").click()
    expect(page.get_by_role("heading", name="No budgets yet")).to_be_visible()


def test_it_is_dark_for_who_likes_it(opened: Opener) -> None:
    """As the system says, or as one has chosen; the choice is kept."""
    ground = "getComputedStyle(document.body).backgroundColor"
    page = opened(color_scheme="dark")
    assert page.evaluate(ground) == "rgb(11, 11, 14)"
    page.get_by_role("button", name="Light").click()
    assert page.evaluate(ground) == "rgb(250, 250, 251)"
    page.goto("/models")
    assert page.evaluate(ground) == "rgb(250, 250, 251)"
    expect(page.get_by_role("button", name="Dark")).to_be_visible()

    page = opened(color_scheme="light")
    page.get_by_role("button", name="Dark").click()
    page.reload()
    assert page.evaluate(ground) == "rgb(11, 11, 14)"


def test_a_phone_needs_no_sideways_scrolling(opened: Opener) -> None:
    """On any page; the menu folds."""
    page = opened(viewport=PHONE)
    expect(page.get_by_role("link", name="Models", exact=True)).to_be_hidden()
    page.locator("details.menu > summary").click()
    page.get_by_role("link", name="Models", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Models")
    for path in (*PAGES, "/conversations/one?id=conversation-03"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"], path


def test_the_keyboard_reaches_everything(opened: Opener) -> None:
    """In the order of what is seen, with a focus that is seen, without a trap."""
    page = opened()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Time range")).to_be_focused()

    page.goto("/usage")
    reached: list[str] = []
    focused = """() => {
        const e = document.activeElement, style = getComputedStyle(e);
        return [e.tagName, (e.getAttribute("aria-label") || e.innerText || e.name).trim().slice(0, 30),
                style.outlineStyle !== "none" || getComputedStyle(e, "::after").outlineStyle !== "none"];
    }"""
    for _ in range(120):
        page.keyboard.press("Tab")
        tag, name, is_seen = page.evaluate(focused)
        if tag == "BODY":
            break
        assert is_seen, f"the focus on {name!r} is not seen"
        reached.append(name)
    assert tag == "BODY"
    for name in ("Overview", "Dark", "Log out", "Filter", "User", "More", "CSV", "Tokens", "Cost"):
        assert name in reached

    page.goto("/usage")
    page.get_by_text("Filter", exact=True).press("Enter")
    expect(page.get_by_label("Where")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_label("Where")).to_be_hidden()


CONTRAST = """() => {
    const lum = (rgb) => rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
    const ground = (e) => {
        for (; e; e = e.parentElement) {
            const [r, g, b, a] = parse(getComputedStyle(e).backgroundColor);
            if (a === undefined || a > 0.99) return [r, g, b];
        }
        return [255, 255, 255];
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = walker.nextNode());) {
        const e = node.parentElement;
        if (!node.textContent.trim() || !e.checkVisibility() || e.closest(".visually-hidden, .skip, option, noscript")) continue;
        const [a, b] = [lum(parse(getComputedStyle(e).color).slice(0, 3)), lum(ground(e))].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < 4.5) found.push(`${node.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read(opened: Opener, scheme: str) -> None:
    """A contrast of at least 4.5 to 1, landmarks, one heading of the first level, names for all."""
    page = opened(color_scheme=scheme)
    for path in (*PAGES, "/conversations/one?id=conversation-03"):
        page.goto(path)
        assert page.evaluate(CONTRAST) == [], path
        assert page.locator("h1").count() == page.locator("main").count() == 1
        assert page.locator("table th:not([scope])").count() == 0, path
        for control in page.locator("input:not([type=hidden]), select").all():
            assert control.evaluate("e => !!(e.labels?.length || e.ariaLabel)"), path


def test_whoever_wants_calm_gets_it(opened: Opener) -> None:
    """Nothing moves for those who have asked for that."""
    page = opened(reduced_motion="reduce")
    moving = "[...document.querySelectorAll('*')].filter(e => getComputedStyle(e).transitionDuration !== '0s').length"
    assert page.evaluate(moving) == 0


def test_it_works_without_scripts(opened: Opener) -> None:
    """The table stands in for the chart, and forms are sent."""
    page = opened(java_script_enabled=False)
    page.get_by_text("Show as a table").click()
    expect(page.get_by_role("region", name="Spend by day and model")).to_be_visible()
    page.get_by_label("Time range").select_option("90d")
    page.get_by_role("button", name="Apply").click()
    expect(page).to_have_url(re.compile("range=90d"))
