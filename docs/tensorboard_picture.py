"""Takes the picture of TensorBoard in docs/gates.md.

    python docs/tensorboard_picture.py RUNS docs/figures/gates/tensorboard.png

RUNS is a folder of finished runs. Needs chromium, and playwright in the Python that runs this; `make install` installs
neither.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

from playwright.sync_api import sync_playwright

TENSORBOARD = Path(__file__).parents[1] / ".venv" / "bin" / "tensorboard"
PORT = 6017
# The learning curve, and the policy's gates behind it.
TAGS = "eval/return_mean|torso/gates/policy/.*_(mean|std|share)"
SIZE = {"width": 1600, "height": 1000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--page", default="timeseries", help="timeseries, hparams, custom_scalars, images, ...")
    parser.add_argument("--tags", default=TAGS, help="a pattern of the tags that are shown")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    command = [str(TENSORBOARD), "--logdir", str(options.runs), "--port", str(PORT), "--load_fast=false"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://localhost:{PORT}"
    try:
        _wait_for(address)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport=SIZE)
            page.goto(f"{address}/?darkMode=false&tagFilter={quote(options.tags)}#{options.page}")
            page.wait_for_timeout(8_000)
            if options.page == "timeseries":
                page.get_by_role("button", name="Settings").last.click()  # closes the panel at the side
            page.wait_for_timeout(12_000)  # until everything is drawn
            page.screenshot(path=options.picture)
            browser.close()
    finally:
        server.terminate()
        server.wait()


def _wait_for(address: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            urlopen(address).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(1)
        else:
            return


if __name__ == "__main__":
    main()
