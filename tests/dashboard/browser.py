"""The dashboard in Chromium: what it shows, that it lives, what can be done with it, and by whom.

    browser.py SLUICEGATE PICTURES AXE

AXE is axe-core's script. Exits non-zero at the first thing that is not as it should be; pictures of the page are left in PICTURES.
"""

import sys
import urllib.request
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from stage import TOKEN, Demo, Load, Proxy, until

# What every element of the page must have, found by walking over it: names, headings, ids, contrast.
AUDIT = (Path(__file__).parent / "audit.js").read_text(encoding="utf-8")

# Rules of axe-core that stand for a success criterion of level A or AA.
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]

expect.set_options(timeout=20_000)


class Looker:
    """A page, and everything that it complained about."""

    def __init__(self, browser, url, **settings):
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.complaints = []
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.add_init_script(
            "addEventListener('securitypolicyviolation', (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`))")
        self.page.goto(url)
        expect(self.page.locator("#link")).to_have_text("live")

    def end(self, *excused):
        left = [text for text in self.complaints if not any(word in text for word in excused)]
        assert not left, left
        self.context.close()


def audit(page, where):
    """Nothing that our own walk over the page finds, and nothing that axe-core finds of WCAG 2.0 to 2.2, A and AA."""
    found = page.evaluate(AUDIT)
    assert not found, f"{where}: {found}"
    # The page's policy holds for its own scripts, not for what the browser is told from outside.
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(Path(sys.argv[3]).read_text(encoding="utf-8"))
    result = page.evaluate("(tags) => axe.run({ runOnly: tags, resultTypes: ['violations', 'incomplete'] })", LEVELS)
    assert len(result["passes"]) > 15, f"{where}: axe looked at {len(result['passes'])} rules only"
    violations = [(rule["id"], rule["help"], [node["html"][:160] for node in rule["nodes"][:5]])
                  for rule in result["violations"]]
    assert not violations, f"{where}: {violations}"
    # Of texts in pictures and of single letters it cannot tell the contrast; our own walk does.
    undecided = [rule["id"] for rule in result["incomplete"] if rule["id"] != "color-contrast"]
    assert not undecided, f"{where}: {undecided}"
    print(f"{where}: {len(result['passes'])} rules of axe-core pass")


def content(looker, proxy):
    page = looker.page
    for title in ("Pools", "Errors by cause", "Error budget, 30 days", "Zones", "Shield and limits", "Bans", "Listeners and certificates", "Records",
                  "Configuration", "Events"):
        expect(page.get_by_role("heading", name=title)).to_have_count(1)
    for endpoint in proxy.status()["pools"][0]["endpoints"]:
        row = page.get_by_role("row").filter(has_text=endpoint["name"])
        expect(row).to_contain_text("up")
    expect(page.locator("#charts-short svg")).to_have_count(4)
    expect(page.locator("#zones tbody tr")).to_have_count(2)
    expect(page.locator("#listeners")).to_contain_text("days left")
    expect(page.locator("#alerts")).to_contain_text("All is well")
    assert TOKEN not in page.content()
    audit(page, "light")
    print("content: every section, every endpoint, names, headings, contrast")


def life(looker, proxy):
    page = looker.page
    before = page.locator("#tiles .tile").first.inner_text()
    load = Load(proxy.plain, 12)
    expect(page.locator("#tiles .tile").first).not_to_have_text(before)
    expect(page.locator("#shield")).to_contain_text("no-administration-from-outside")
    expect(page.locator("#errors")).to_contain_text("denied")
    proxy.file.write_text(proxy.file.read_text().replace('interval = "1s"', 'interval = "2s"'))
    expect(page.locator("#generations")).to_contain_text("pools.superset.health.interval: 1s → 2s")
    page.get_by_label("6 hours").check()
    expect(page.locator("#charts-short")).to_be_hidden()
    expect(page.locator("#charts-long")).to_be_visible()
    audit(page, "six hours")
    page.get_by_label("10 minutes").check()
    print("life: rates, verdicts, a reload and what it changed, both windows")
    return load


def drain(looker, proxy):
    page = looker.page
    name = proxy.status()["pools"][0]["endpoints"][0]["name"]
    dialog = page.get_by_role("dialog")

    page.get_by_role("button", name=f"Drain {name} of superset").click()
    expect(dialog).to_contain_text(f"Drain superset/{name}")
    audit(page, "drain's dialog")
    dialog.get_by_label("Admin token").fill("a wrong token, alas")
    dialog.get_by_role("button", name="Drain").click()
    expect(dialog.get_by_role("alert")).to_contain_text("token")
    audit(page, "drain refused")
    dialog.get_by_label("Admin token").fill(TOKEN)
    dialog.get_by_label("For how long").select_option("15m")
    dialog.get_by_role("button", name="Drain").click()
    expect(dialog).to_be_hidden()
    row = page.get_by_role("row").filter(has_text=name)
    expect(row).to_contain_text("drained")
    expect(page.locator("#alerts")).to_contain_text(f"Drained: superset/{name}")
    assert proxy.status()["drains"], "nothing was drained"
    expect(page.locator("#events")).to_contain_text("drained: by an operator")

    page.get_by_role("button", name=f"Enable {name} of superset").click()
    expect(dialog.get_by_label("Admin token")).to_be_hidden()
    dialog.get_by_role("button", name="Enable").click()
    expect(row).to_contain_text("up")
    until("no drain", lambda: not proxy.status()["drains"])
    kept = page.evaluate("[localStorage.length, document.cookie, Object.keys(sessionStorage).join()]")
    assert kept == [0, "", "sluicegate-token"], kept
    print("drain: refused without the token, done with it, undone; the token is the tab's alone")


def ban(looker):
    page = looker.page
    dialog = page.get_by_role("dialog")
    page.get_by_role("button", name="Ban somebody").click()
    dialog.get_by_label("Address or JA4 fingerprint").fill("203.0.113.9")
    dialog.get_by_label("Why").fill("<b>scans</b>")
    audit(page, "ban's dialog")
    dialog.get_by_role("button", name="Ban").click()
    expect(page.locator("#bans")).to_contain_text("203.0.113.9")
    expect(page.locator("#bans")).to_contain_text("<b>scans</b>")
    audit(page, "banned")
    page.get_by_role("button", name="Lift the ban of 203.0.113.9").click()
    dialog.get_by_role("button", name="Lift the ban").click()
    expect(page.locator("#bans")).to_contain_text("Nobody is banned")
    page.get_by_role("button", name="Forget token").click()
    assert page.evaluate("sessionStorage.length") == 0
    print("ban: made, shown as text, lifted")


def keyboard(looker):
    page = looker.page
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.reload()
    expect(page.locator("#link")).to_have_text("live")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.act") == "drain":
            break
    held = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert held and held.startswith("Drain"), held
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for _ in range(3):
        was = page.locator("#state").inner_text()
        page.wait_for_function("(was) => document.getElementById('state').innerText !== was", arg=was)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == held, "an update took the focus"
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == held, "the dialog kept the focus"
    print("keyboard: skip link, visible focus that updates leave alone, dialog in and out")


def fails(looker, proxy, demo, pictures):
    """Replicas die under load, as one notices it first."""
    page = looker.page
    name = proxy.status()["pools"][0]["endpoints"][1]["name"]
    urllib.request.urlopen(urllib.request.Request(f"http://{name}/demo/kill", method="POST", data=b""), timeout=5)
    expect(page.locator("#alerts")).to_contain_text("is out", timeout=15_000)
    expect(page.get_by_role("row").filter(has_text=name)).to_contain_text("down")
    expect(page.locator("#events")).to_contain_text(f"superset/{name}")
    page.wait_for_timeout(6_000)
    page.screenshot(path=pictures / "failure.png", full_page=True)
    audit(page, "failure")
    print("failure: alert, state, reason, event")


def elsewhere(browser, proxy, pictures):
    for scheme in ("light", "dark"):
        phone = Looker(browser, proxy.url, color_scheme=scheme, viewport={"width": 390, "height": 844}, device_scale_factor=2,
                       is_mobile=True, has_touch=True, reduced_motion="reduce")
        wide = phone.page.evaluate("document.documentElement.scrollWidth - 390")
        assert wide <= 0, f"{wide} pixels too wide for a phone"
        audit(phone.page, f"phone, {scheme}")
        phone.page.screenshot(path=pictures / f"phone-{scheme}.png", full_page=True)
        phone.end()
    dark = Looker(browser, proxy.url, color_scheme="dark", viewport={"width": 1360, "height": 900})
    audit(dark.page, "dark")
    dark.page.screenshot(path=pictures / "dark.png", full_page=True)
    dark.end()
    print("phone and dark: nothing too wide, contrast as in light")


def main(binary, pictures, _axe):
    pictures = Path(pictures)
    pictures.mkdir(parents=True, exist_ok=True)
    demo = Demo(binary)
    proxy = Proxy(binary, demo)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            looker = Looker(browser, proxy.url, viewport={"width": 1360, "height": 900})
            content(looker, proxy)
            load = life(looker, proxy)
            drain(looker, proxy)
            ban(looker)
            keyboard(looker)
            # So that the charts have something to show.
            looker.page.wait_for_timeout(10_000)
            looker.page.evaluate("scrollTo(0, 0)")
            looker.page.screenshot(path=pictures / "load.png", full_page=True)
            elsewhere(browser, proxy, pictures)
            fails(looker, proxy, demo, pictures)
            load.stop()
            # The one request that was meant to be refused.
            looker.end("401")
            first = Looker(browser, demo.admin)
            expect(first.page.locator("#pools")).to_contain_text("superset")
            first.end()
            browser.close()
    finally:
        proxy.end()
        demo.end()
    print(f"pictures in {pictures}")


main(*sys.argv[1:])
