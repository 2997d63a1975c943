"""Chromium without a screen, driven by Selenium: one browser, a page of its own for each test."""

import base64
import shutil
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

# It runs as root in containers, where its own sandbox has no namespaces, and has nobody to ask for updates.
_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
_FLAGS += ["--disable-background-networking", "--disable-component-update"]


class Browser:
    def __init__(self, folder: Path):
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for flag in [*_FLAGS, f"--user-data-dir={folder}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self._driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))

    def end(self) -> None:
        self._driver.quit()

    def open(self, url: str, width: int = 1280, dark: bool = False) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        # The page before may be asking an Outrigger that has gone, and complain of it.
        self._driver.get("about:blank")
        self.complaints()
        self._driver.get(url)

    def run(self, script: str, *arguments):
        """What `script`, a function's body, returns."""
        return self._driver.execute_script(script, *arguments)

    def find(self, selector: str) -> WebElement:
        return self._driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """What somebody sees there."""
        return self.find(selector).text

    def press(self, key: str) -> None:
        """On whatever has the focus."""
        self._driver.switch_to.active_element.send_keys(key)

    def complaints(self) -> list[str]:
        """What its console has said since the last question."""
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def screenshot(self) -> bytes:
        picture = self._driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        return base64.b64decode(picture["data"])
