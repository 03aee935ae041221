"""Claims about the page at /: one file that fetches nothing from elsewhere, and does what it offers, in a browser."""

import re
import shutil
import subprocess

import pytest

from tests.serve import places


@pytest.fixture(scope="module")
def several(folders, written):
    names = ("vectors", "masks", "judge", "ranker")
    with places.running({**{name: folders[name] for name in names}, "gpt": written}) as found:
        yield found


def test_it_is_one_file_and_its_script_is_sound(several, tmp_path):
    status, text = several.get("/")
    assert status == 200 and not re.search(r"""(?:src|href)\s*=|url\(|@import|https?://""", text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    for name in re.findall(r'\$\("(\w+)"\)', script):
        assert f'id="{name}"' in text
    if shutil.which("node") is None:
        pytest.skip("node is not installed: the script is not parsed")
    (tmp_path / "page.js").write_text(script)
    done = subprocess.run(["node", "--check", tmp_path / "page.js"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def page(several):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no chromium: the page is not tried in a browser")
    with playwright.sync_playwright() as program:
        made = program.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        opened = made.new_page()
        failed = []
        opened.on("pageerror", lambda error: failed.append(str(error)))
        opened.goto(several.url)
        yield opened
        made.close()
    assert not failed


@pytest.mark.parametrize(
    ("model", "use", "text", "cells"),
    [
        ("vectors", "embed", "a cat\na dog", ["a cat", "1.0000"]),
        ("masks", "fill", "the cat [MASK]", ["the cat "]),
        ("judge", "classify", "the cat", ["good", "bad"]),
        ("ranker", "rank", "a cat\na dog\nthe mat", ["a dog", "the mat"]),
    ],
)
def test_what_encoders_do_is_shown_as_tables(page, model, use, text, cells):
    page.select_option("#model", model)
    page.select_option("#use", use)
    page.fill("#text", text)
    page.click("#go")
    page.wait_for_selector("#out td")
    found = page.inner_text("#out")
    assert all(cell in found for cell in cells), found


@pytest.mark.parametrize("use", ["write", "chat"])
def test_a_text_appears_while_it_is_written(page, use):
    page.select_option("#model", "gpt")
    page.select_option("#use", use)
    page.fill("#text", "The cat")
    page.click("#go")
    page.wait_for_function(
        "!document.getElementById('go').disabled && document.getElementById('out').innerText"
    )
    assert page.query_selector("#out .error") is None and page.is_hidden("#stop")


def test_what_the_server_refuses_is_shown(page):
    page.select_option("#model", "masks")
    page.select_option("#use", "fill")
    page.fill("#text", "no mask")
    page.click("#go")
    page.wait_for_selector("#out .error")
    assert "'no mask' has no [MASK] to fill" in page.inner_text("#out")
