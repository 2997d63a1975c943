"""The status page in a real browser: it shows what is, under a strict policy, for eyes, keyboards and small screens."""

import re

import httpx
import pytest
from selenium.webdriver.common.keys import Keys

from harness import ANY_RESULT, JSON, chunk, event, event_stream_head, free_port, response, wait_until
from harness.browser import Browser

MCP = "/servers/s/mcp"
INITIALIZE = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}'
HOSTILE = "<img/src=x/onerror=alert(1)>"


def script(connection) -> None:
    while True:
        message = connection.read_request()
        if message.method == "GET" and message.path == "/mcp":
            connection.send(event_stream_head() + chunk(event("begun")))
            connection.wait_closed()
            return
        headers = {"Mcp-Session-Id": "s1"} if b'"initialize"' in message.body else {}
        connection.send(response(200, {"jsonrpc": "2.0", "id": 1, "result": ANY_RESULT}, headers))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.end()


@pytest.fixture
def world(outrigger, raw_upstream, pki):
    """A peer that lives, one that does not, a listener with a certificate."""
    identity = pki.issue("localhost")
    peers = [{"name": HOSTILE, "address": raw_upstream(script).address}, {"name": "gone", "address": nobody()}]
    health = {"path": "/health", "interval": "200ms", "timeout": "200ms", "unhealthy_threshold": 1}
    config = {"profile": "generic", "upstreams": {"gateway": {"health": health}}}
    world = outrigger(peers, config, start=False)
    secure = {"name": "secure", "address": nobody(), "upstream": "gateway", "tls": identity.as_config()}
    world.config["listeners"].append(secure)
    world.start()
    return world


def nobody() -> str:
    return f"127.0.0.1:{free_port()}"


def ask(world, body: bytes = INITIALIZE) -> int:
    return httpx.post(world.url + MCP, content=body, headers=JSON, trust_env=False).status_code


def shows(browser, selector: str, *texts: str) -> None:
    wait_until(lambda: all(text in browser.text(selector) for text in texts), what=f"{selector} shows {texts}")


def test_it_shows_what_is(world, browser):
    stream = world.open_stream()
    world.reload()
    assert ask(world) == 200 and ask(world, b"{") == 400
    browser.open(world.admin + "/")
    shows(browser, "#state", "ready")
    shows(browser, "#about", "generation 2")
    shows(browser, "#generations", "Generation 1", "draining", "1 stream, 1 connection", "Generation 2", "serving")
    shows(browser, "#generations", "reloaded", "1 well, 0 refused")
    shows(browser, "#upstreams", "gateway", HOSTILE, "healthy", "gone", "unhealthy", "nobody listens there")
    shows(browser, "#faults", "bad message")
    shows(browser, "#owners", "embedded", "sessions kept")
    shows(browser, "#listeners", "public", "plaintext", "secure", "TLS", world.config["listeners"][1]["address"])
    shows(browser, "#certificates", "localhost", "shown by listener secure", "more than 10 years")
    shows(browser, "#attention", "Look", "upstream gateway: 1 of 2 peers is not well: gone (nobody listens there)")
    assert not browser.find("#members").is_displayed(), "it is alone"
    assert browser.run("return document.title") == "(1) Outrigger"
    stream.close()
    wait_until(lambda: "Generation 1" not in browser.text("#generations"), what="the drained generation is gone")
    world.write_config({"threads": "many"})
    world.process.signal(1)
    shows(browser, "#generations", "reload refused", "threads: expected")
    shows(browser, "#attention", "the last reload was refused", "threads: expected")
    assert browser.complaints() == []


def test_rates_and_durations_are_drawn_from_what_happens(world, browser):
    browser.open(world.admin + "/")
    line = "return document.querySelector('#rate .s-ok').getAttribute('d').length"

    def busy() -> bool:
        for _ in range(20):
            ask(world)
        return browser.run(line) > 20 and re.search(r"answered [1-9]", browser.text("#rate"))

    wait_until(busy, what="a line is drawn")
    shows(browser, "#latency", "half within", " ms")
    shows(browser, "#figures", "Requests", "/s", "ms")


def test_each_member_s_page_says_whose_it_is(members, redis_server, raw_upstream, browser):
    running = members(redis_server(), [[raw_upstream(script).address] for _ in range(3)])
    assert running.begin(0).post(running.url(1), "ping").status_code == 200
    browser.open(running[1].admin + "/")
    shows(browser, "#members", "one", "three", "two", "this one", running.addresses[0], "requests sent on to them")
    shows(browser, "#members", "1 (100 %)")
    shows(browser, "h1", "Outrigger", "two")
    assert browser.run("return document.title") == "two · Outrigger"
    assert not browser.find("#attention").is_displayed()
    assert browser.complaints() == []


def test_nothing_else_is_loaded_and_nothing_else_would_run(world, browser):
    browser.open(world.admin + "/")
    shows(browser, "#state", "ready")
    loaded = set(browser.run("return performance.getEntriesByType('resource').map((one) => one.name)"))
    assert loaded == {world.admin + "/status"}
    assert browser.complaints() == []
    browser.run(
        "const script = document.createElement('script');"
        "try { script.textContent = 'window.injected = 1'; document.body.append(script); } catch (refused) {}"
    )
    assert browser.run("return window.injected") is None
    assert any("Content Security Policy" in said or "Trusted" in said for said in browser.complaints())
    policy = httpx.get(world.admin + "/", trust_env=False).headers["content-security-policy"]
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy


def test_a_keyboard_is_enough(world, browser):
    browser.open(world.admin + "/")
    wait_until(lambda: browser.run("return points.length") >= 3, what="there is some history")
    browser.run("document.activeElement.blur()")
    focused = (
        "const one = document.activeElement; return one.id || one.closest('figure')?.id || one.getAttribute('href')"
    )
    order = []
    for _ in range(8):
        browser.find("body").send_keys(Keys.TAB) if not order else browser.press(Keys.TAB)
        order.append(browser.run(focused))
        if order[-1] == "latency":
            browser.press(Keys.ARROW_LEFT)
            browser.press(Keys.ARROW_LEFT)
            assert " ago: half within" in browser.find("#latency svg").get_attribute("aria-label")
        if order[-1] == "live":
            browser.press(Keys.ENTER)
            assert browser.find("#live").get_attribute("aria-pressed") == "false"
            assert browser.text("#live") == "Paused"
    assert order == ["#figures", "live", "#h-upstreams", "rate", "latency", "/status", "/metrics", "/config"]
    assert browser.find("#live").get_attribute("aria-pressed") == "false"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everything_has_a_name_and_can_be_read(dark, world, browser):
    browser.open(world.admin + "/", dark=dark)
    shows(browser, "#upstreams", "unhealthy")
    nameless = browser.run(
        "return [...document.querySelectorAll('svg[role], .bar, button, section')].filter((one) =>"
        " !(one.getAttribute('aria-label') || one.getAttribute('aria-labelledby') || one.textContent))"
        ".map((one) => one.outerHTML)"
    )
    assert nameless == []
    assert browser.run("return document.querySelectorAll('h1').length") == 1
    ask(world, b"{")
    shows(browser, "#faults", "1 in the last minute, 1")
    assert {text: found for text, found in contrasts(browser).items() if found < 4.5} == {}
    ground = browser.run("return getComputedStyle(document.documentElement).backgroundColor")
    assert (luminance(ground) < 0.2) == dark


def contrasts(browser) -> dict[str, float]:
    """WCAG 2.2, 1.4.3: of every text that is seen and the nearest ground behind it."""
    colours = browser.run(
        "const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];"
        "while (texts.nextNode()) { const text = texts.currentNode; let one = text.parentElement;"
        "  if (!text.data.trim() || !one.checkVisibility() || one.matches('style, script, noscript')) continue;"
        "  const style = getComputedStyle(one), ink = one.closest('svg') ? style.fill : style.color;"
        "  while (getComputedStyle(one).backgroundColor === 'rgba(0, 0, 0, 0)') one = one.parentElement;"
        "  found.push([text.data, ink, getComputedStyle(one).backgroundColor]); } return found"
    )
    assert len(colours) > 50
    return {text: ratio(ink, ground) for text, ink, ground in colours}


def ratio(*colours: str) -> float:
    low, high = sorted(map(luminance, colours))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_it_fits_the_screen(width, world, browser):
    browser.open(world.admin + "/", width=width)
    shows(browser, "#upstreams", "unhealthy")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.screenshot().startswith(b"\x89PNG")


def test_an_outrigger_that_is_gone_is_said_to_be(world, browser):
    browser.open(world.admin + "/")
    shows(browser, "#state", "ready")
    assert not browser.find("#trouble").is_displayed()
    world.stop()
    shows(browser, "#trouble", "No answer from Outrigger", "old")
    world.start()
    wait_until(lambda: not browser.find("#trouble").is_displayed(), what="it answers again")
    shows(browser, "#state", "ready")
