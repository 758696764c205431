"""Take the pictures of README and site, in light and dark: `python docs/picture.py demo/report.html`. Needs Chromium.

The report is that of `make demo`, and the pictures show its top.
"""

import shutil
import subprocess
import sys
from pathlib import Path

IMAGES = Path(__file__).with_name("images")
SIZE = "1000,1010"
SCHEMES = {"light": 1, "dark": 0}
"""Chromium's number of each preferred colour scheme."""


def take(report: Path, scheme: str) -> Path:
    """Take the picture of a page in one colour scheme."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium here; on Debian: apt-get install chromium")
    picture = IMAGES / f"report-{scheme}.png"
    command = [chromium, "--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={SIZE}"]
    command += [f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", f"--screenshot={picture}"]
    subprocess.run([*command, report.resolve().as_uri()], check=True, capture_output=True)
    return picture


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for each in SCHEMES:
        print(take(Path(sys.argv[1]), each))
