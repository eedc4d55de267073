import base64
import hashlib
import re

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from pipeline.report.page import LONGEST_CHARACTERS, Cells, Page, Part, Picture, Section, _environment, render

SCRIPT = "<script>alert(1)</script>"


def page(*parts: Part, dataset: str = "out/k400", is_complete: bool = True) -> str:
    return render(Page(dataset, "today", is_complete, [], [Section("Counts", parts)]))


def test_every_place_for_a_text_escapes_it() -> None:
    hostile = f'"{SCRIPT}'
    part = Part(
        hostile,
        [hostile],
        [Cells([hostile], [[hostile]], title=hostile)],
        [Picture(Markup("data:image/png;base64,AA=="), hostile, 1, 1, hostile)],
        Cells([hostile], [[hostile]], title=hostile),
    )
    html = render(Page(hostile, hostile, False, [hostile], [Section(hostile, [part])]))
    assert "<script" not in html
    assert '"&lt;' not in html  # the quote is escaped, too: it would end an attribute
    assert html.count("&lt;script&gt;") >= 17


def test_credentials_are_hidden() -> None:
    html = page(Part("s3://key:secret@bucket/x", ["lost https://user:hunter2@host/a?sig=abc"]), dataset="s3://k:s@b")
    assert not {"secret", "hunter2", "abc", "k:s@"} & set(re.findall(r"secret|hunter2|abc|k:s@", html))
    assert "s3://…" in html


def test_nothing_may_run_or_be_fetched() -> None:
    html = page()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;;")
    assert "script" not in policy[1]
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"sha256-{digest}" in policy[1].replace("&#43;", "+")
    assert "style=" not in html  # the policy would ignore it
    assert not re.search(r"https?:|url\(|@import", html)


def test_long_texts_are_cut() -> None:
    html = page(Part(sentences=["x" * 10_000]))
    assert "x" * LONGEST_CHARACTERS + "…" in html
    assert "x" * (LONGEST_CHARACTERS + 1) not in html


def test_whether_it_is_complete() -> None:
    assert "<strong>Complete</strong>" in page()
    assert "<strong>Not complete</strong>" in page(is_complete=False)


def test_a_section_can_be_reached() -> None:
    html = render(Page("d", "today", True, [], [Section("Failed rows", [])]))
    assert 'href="#failed-rows"' in html
    assert 'id="failed-rows"' in html


def test_a_slip_in_the_template_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        _environment().from_string("{{ page.nothing }}").render(page=1)
