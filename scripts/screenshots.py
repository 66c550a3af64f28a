"""Make the guide's pictures of the published page: what it answers, the grid, and a plot.

    python scripts/screenshots.py [--page FILE] [--out DIR] [--chromium PATH]

The pictures are made by Chromium: MATRIX_CHROMIUM, `chromium` of the PATH, or the one that
playwright installed. They have 256 colours at most, which keeps each below 200 kB.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 200_000
"""Bytes of a picture, at most."""

CASE = "model_startup[gpt_oss_120b]|seconds"
"""What the plot shows: a case that ran with many releases, and the seconds of its starts."""

_COLOURS = 256
_STYLES = ("fill", "font-family", "font-size", "stroke", "stroke-dasharray", "stroke-width")
_INLINE = """(drawn, styles) => {
  const space = "http://www.w3.org/2000/svg", every = [...drawn.querySelectorAll(":not(title)")];
  const found = every.map((element) => {
    const style = getComputedStyle(element);
    return styles.map((name) => [name, style.getPropertyValue(name)]);
  });
  const background = document.createElementNS(space, "rect");
  background.setAttribute("width", "100%");
  background.setAttribute("height", "100%");
  background.setAttribute("fill", getComputedStyle(document.body).backgroundColor);
  every.forEach((element, at) => {
    for (const [name, value] of found[at]) element.setAttribute(name, value);
    element.removeAttribute("class");
  });
  drawn.prepend(background);
  drawn.setAttribute("xmlns", space);
  return drawn.outerHTML;
}"""
"""Returns an SVG of the page with the styles and the background that it has there."""

_DAYS = "document.body.textContent.match(/\\b20[0-9]{2}-[0-9]{2}-[0-9]{2}\\b/g)"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture of the page: its name, the size of the window, and how the page is seen."""

    name: str
    width: int = 1180
    height: int = 760
    scheme: str = "light"
    part: str | None = None
    """The element that is shown; None is the window."""


PICTURES = (
    Picture(name="page"),
    Picture(name="page-dark", scheme="dark"),
    Picture(name="page-narrow", width=400),
    Picture(name="grid", part=".wrap:has(#grid)"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the pictures; return 1 where one is too large."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--page", type=Path, default=ROOT / "results" / "index.html")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "_static")
    parser.add_argument(
        "--chromium", default=os.environ.get("MATRIX_CHROMIUM") or shutil.which("chromium")
    )
    options = parser.parse_args(arguments)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=options.chromium, args=["--disable-gpu", "--no-first-run"]
        )
        address = options.page.resolve().as_uri()
        day = newest_day(browser, address)
        made = [
            write(options.out / f"{picture.name}.png", taken(browser, address, picture, day))
            for picture in PICTURES
        ]
        made.append(write(options.out / "seconds.svg", plotted(browser, address)))
        browser.close()
    return int(not all(made))


def opened(browser: Browser, address: str, picture: Picture, day: str | None = None) -> Page:
    """Return the page as a window of this size shows it, as if it were this day.

    The page says of a day how long ago it is; a picture says the same whenever it is made.
    """
    context = browser.new_context(
        viewport={"width": picture.width, "height": picture.height},
        color_scheme=picture.scheme,
        reduced_motion="reduce",
    )
    page = context.new_page()
    if day is not None:
        page.clock.set_fixed_time(f"{day}T23:59:59Z")
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    return page


def newest_day(browser: Browser, address: str) -> str:
    """Return the newest day that the page names."""
    page = opened(browser, address, Picture(name="day"))
    day: str = max(page.evaluate(_DAYS))
    page.context.close()
    return day


def taken(browser: Browser, address: str, picture: Picture, day: str) -> bytes:
    """Return a picture as PNG."""
    page = opened(browser, address, picture, day)
    if picture.part is None:
        image = page.screenshot()
    else:
        part = page.locator(picture.part)
        part.evaluate("element => { element.style.maxHeight = 'none'; }")
        image = part.screenshot()
    page.context.close()
    return palette(image)


def plotted(browser: Browser, address: str) -> bytes:
    """Return the page's plot of the seconds of cold and warm starts across releases, as SVG."""
    page = opened(browser, address, Picture(name="seconds"))
    page.evaluate("document.getElementById('trends').open = true")
    name, of = CASE.split("|")
    first, second = page.locator("#trends select").all()
    first.select_option(name)
    second.select_option(of)
    drawn = page.locator("#trends svg.plot").last
    drawn.wait_for()
    image: str = drawn.evaluate(_INLINE, list(_STYLES))
    page.context.close()
    return f"{image}\n".encode()


def palette(image: bytes) -> bytes:
    """Return a PNG of few colours, which is a third as large."""
    from PIL import Image

    made = io.BytesIO()
    Image.open(io.BytesIO(image)).convert("RGB").quantize(_COLOURS).save(
        made, format="PNG", optimize=True
    )
    return made.getvalue()


def write(path: Path, image: bytes) -> bool:
    """Write a picture, say how large it is, and return whether that is small enough."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image)
    fits = len(image) <= LIMIT
    print(f"{path}: {len(image) / 1000:.0f} kB" + ("" if fits else f", more than {LIMIT // 1000}"))
    return fits


if __name__ == "__main__":
    sys.exit(main())
