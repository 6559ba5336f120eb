"""Steps in the manager's console, in a real browser: sign in, go to a page, read it, press a button."""

from pathlib import Path

import axe_playwright_python

from tests.integration.api.served import ADMIN_TOKEN
from tests.support.browser import Browser
from tests.support.waiting import eventually

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"


def page_text(browser: Browser) -> str:
    """Return the text of the page that is shown."""
    return str(browser.run("return document.getElementById('main').innerText"))


def sign_in(browser: Browser, url: str, token: str = ADMIN_TOKEN) -> None:
    """Load the console and sign in, whoever was signed in before; returns once the page is live."""
    browser.forget_cookies()
    browser.emulate(1400, "light")
    browser.open(f"{url}/")
    eventually(lambda: browser.run("return !!document.getElementById('token')"), what="the sign-in")
    give(browser, token)
    eventually(lambda: browser.run("return document.body.dataset.live") == "live", what="a live page")


def give(browser: Browser, token: str) -> None:
    """Give a token to the form of the sign-in."""
    script = "const i = document.getElementById('token'); i.value = arguments[0]; i.form.requestSubmit()"
    browser.run(script, token)


def go(browser: Browser, page: str, expected: str) -> str:
    """Go to a page by its address, and return its text once it has an expected one."""
    browser.run("location.hash = arguments[0]", f"#/{page}")
    eventually(lambda: expected in page_text(browser), what=f"{expected} on {page}")
    return page_text(browser)


def click(browser: Browser, label: str, within: str = "body") -> None:
    """Press the first button whose text begins so, once it can be seen and pressed."""
    script = """
        const buttons = [...document.querySelectorAll(arguments[1] + " button")];
        const ready = buttons.filter((each) => each.checkVisibility() && !each.disabled);
        const found = ready.find((each) => each.textContent.startsWith(arguments[0]));
        if (found) found.click();
        return !!found;
    """
    eventually(lambda: browser.run(script, label, within), what=f"a button {label}")


def set_field(browser: Browser, name: str, value: str | bool, within: str = "body") -> None:
    """Set a field by its name, as typing or a click does."""
    script = """
        const field = document.querySelector(`${arguments[2]} [name="${arguments[0]}"]`);
        if (field === null) return false;
        if (typeof arguments[1] === "boolean") field.checked = arguments[1]; else field.value = arguments[1];
        field.dispatchEvent(new Event("input", { bubbles: true }));
        field.dispatchEvent(new Event("change", { bubbles: true }));
        return true;
    """
    eventually(lambda: browser.run(script, name, value, within), what=f"a field {name}")


def second_step(browser: Browser) -> str:
    """Return the text of the dialog that asks before a change."""
    script = "return document.querySelector('dialog')?.innerText"
    return str(eventually(lambda: browser.run(script), what="a second step"))


def faults(browser: Browser) -> list[str]:
    """Return the rules of axe-core that the page breaks, each with the first element that does."""
    if not browser.run("return !!window.axe"):
        browser.run(f"{AXE.read_text()}; window.axe = axe")
    script = "return axe.run().then((found) => found.violations.map((each) => each.id + ' ' + each.nodes[0].html))"
    return list(browser.run(script))
