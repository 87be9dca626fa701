"""Screenshots of a run's or a sweep's page, for README and docs: `python tools/screenshots.py RUN OUT`.

Writes OUT/page-NAME.png, of a sweep OUT/sweep-NAME.png (overview, results, curves, rollouts, beside, judge; light; and
dark, the curves), and says how large each is. It needs the package playwright and the program chromium; a file above
300 KB is an error.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from yonder.reporting.page import write_report
from yonder.reporting.sweeps import is_sweep

WIDTH, HEIGHT = 1280, 800
LARGEST = 300_000  # bytes
WHOLE = {"overview": "#overview", "results": "#results", "curves": "#curves", "judge": "#judge"}


def main() -> None:
    """Make the page anew in a folder of its own, and photograph its sections."""
    if len(sys.argv) != 3:
        sys.exit("usage: python tools/screenshots.py RUN OUT")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("this needs the program chromium: ./tools/install_browser.sh")
    out = Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    kind = "sweep" if is_sweep(Path(sys.argv[1])) else "page"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = write_report([Path(sys.argv[1])], Path(folder) / "report.html")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for scheme in ("light", "dark"):
            context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
            tab = context.new_page()
            tab.goto(page.as_uri())
            tab.add_style_tag(content=".bar { position: static !important } html { scroll-behavior: auto !important }")
            (photograph if scheme == "light" else photograph_dark)(tab, out / kind)
        browser.close()
    large = [path for path in sorted(out.glob(f"{kind}-*.png")) if path.stat().st_size > LARGEST]
    for path in sorted(out.glob(f"{kind}-*.png")):
        print(f"{path}  {path.stat().st_size // 1000} KB")
    if large:
        sys.exit(f"larger than {LARGEST // 1000} KB: {', '.join(map(str, large))}")


def photograph(tab: Any, stem: Path) -> None:
    """One picture a section, from its top, at most a screen high; then one question side by side."""
    for name, selector in WHOLE.items():
        shot(tab, selector, Path(f"{stem}-{name}.png"))
    if not tab.locator("#kinds").count():
        return
    tab.locator("#kinds label", has_text="Liked wrongly").first.click()
    shot(tab, "#rollouts", Path(f"{stem}-rollouts.png"))
    tab.locator("#kinds label", has_text="At several steps").click()
    if tab.locator("#beside-open").count():
        tab.locator("#beside-open").click()
        shot(tab, "#beside", Path(f"{stem}-beside.png"))


def photograph_dark(tab: Any, stem: Path) -> None:
    """The curves in the dark."""
    shot(tab, "#curves", Path(f"{stem}-dark.png"))


def shot(tab: Any, selector: str, path: Path) -> None:
    """What a reader sees with the section's top at the top of the window."""
    place = tab.locator(selector)
    place.evaluate("(section) => section.scrollIntoView({ block: 'start' })")
    tab.wait_for_timeout(800)  # charts near the window are drawn when they come near
    box = place.bounding_box()
    height = min(HEIGHT, box["height"]) if box else HEIGHT
    top = max(0.0, box["y"]) if box else 0.0
    tab.screenshot(path=path, clip={"x": 0, "y": top, "width": WIDTH, "height": min(height, HEIGHT - top)})


if __name__ == "__main__":
    main()
