"""Claim: a browser shows the page without an error, with every picture, within the width of a phone, and values on hover."""

import json
import pathlib
import shutil
import subprocess

import pytest

from jaxlm.report import told
from jaxlm.report.markup import tag
from jaxlm.report.page import page
from tests.report.pages import parsed

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), ""
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium: apt-get install chromium"),
]
# Runs inside the page, behind its own script, and leaves what it found as JSON.
PROBE = """
const visible = (node) => node.checkVisibility() && node.closest("details:not([open])") === null;
const overflow = document.documentElement.scrollWidth - innerWidth;
const found = { width: innerWidth, overflow, sizes: [], hints: [], logs: [] };
for (const figure of document.querySelectorAll("figure")) {
  if (!visible(figure)) continue;
  const size = () => [...figure.querySelectorAll("svg")].filter(visible).map((svg) => {
    const { width, height } = svg.getBoundingClientRect();
    return [width, height, [...svg.querySelectorAll("path")].some((path) => path.getTotalLength() > 0)];
  });
  found.sizes.push(size());
  const frame = figure.querySelector(".frame"), box = frame.getBoundingClientRect();
  const move = { clientX: box.left + 0.5 * box.width, clientY: box.top + 20, bubbles: true };
  frame.dispatchEvent(new PointerEvent("pointermove", move));
  found.hints.push(frame.querySelector(".hint").innerText);
  frame.dispatchEvent(new PointerEvent("pointerleave"));
  figure.querySelector("label")?.click();
  found.logs.push(size());
}
found.left = document.querySelectorAll(".hint, .hair, .spot").length;
const note = document.createElement("pre");
note.id = "probe";
note.textContent = JSON.stringify(found);
parent.document.body.append(note);
"""


def run_folder(root: pathlib.Path, name: str, peak: float) -> pathlib.Path:
    """A run of 100 steps, as far as a page reads it."""
    (root / name / "samples").mkdir(parents=True)
    about = {"model": {"type": "m.Bert"}, "objective": {"type": "o.MaskedLM"}, "data": {"corpus": "x" * 200}}
    stages = [{"length": 32, "share": 0.7}, {"length": 64, "share": 0.3}]
    config = {**about, "stages": stages, "steps": 100, "batch_size": 8, "exclude": [[98, 99]], "peak": peak}
    (root / name / "config.json").write_text(json.dumps({"format": 1, "config": config}))
    lines = [
        {"step": k, "train/loss": 9 / k + peak, "optim/learning_rate": peak * k, "time/step_s": 0.1}
        | ({"eval/loss": 8.125 / k + peak} if k % 25 == 0 else {})
        for k in range(1, 101)
    ]
    (root / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (root / name / "samples/step-50.txt").write_text("a [MASK]\n    b 12.0%  c 3.0%\n")
    item = {
        "number": 1,
        "places": [0, 1],
        "positions": [0, 1],
        "tokens": ["[CLS]", "[MASK]"],
        "targets": [None, "b"],
    }
    row = {
        "head": "row 0",
        "in_place": False,
        "items": [{**item, "prefix": 0, "source": None, "note": ""}] * 9,
    }
    (root / name / "rows").mkdir()
    (root / name / "rows/stage-0.json").write_text(json.dumps({"": [row]}))
    return root / name


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("names", [("a",), ("a", "a much longer name of a run")])
def test_a_browser_shows_it_whole(tmp_path, names, width):
    runs = [str(run_folder(tmp_path, name, 0.5 + k)) for k, name in enumerate(names)]
    file = tmp_path / "page.html"
    inside = page(told.several(runs)).replace("</body>", f"<script>{PROBE}</script></body>")
    frame = tag(
        "iframe", srcdoc=inside, style=f"width: {width}px; height: 2000px; border: 0"
    )  # no window is so narrow
    file.write_text(tag("body", frame))
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"]
    command += [
        "--window-size=1400,2000",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    done = subprocess.run([*command, file.as_uri()], capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr, done.stderr
    probe = done.stdout.rpartition('<pre id="probe">')[2]
    found = json.loads(parsed(f"<pre>{probe.partition('</pre>')[0]}</pre>").text)
    assert found["width"] == width
    assert found["overflow"] <= 0, "the page is wider than its window"
    assert len(found["sizes"]) == 2  # the others are folded
    for (svg,) in [*found["sizes"], *found["logs"]]:
        assert svg[0] > 250 and svg[1] > 150 and svg[2]
    for k in range(len(names)):
        assert f"at 50\n{9 / 50 + 0.5 + k:.5g}" in found["hints"][0]
        assert f"held out at 50\n{8.125 / 50 + 0.5 + k:.5g}" in found["hints"][0]
        assert len(names) == 1 or f"{names[k]}, held out at 50" in found["hints"][0]
    assert found["left"] == 0
