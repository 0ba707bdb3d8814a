"""Sections of HTML: whatever text goes in comes out as text."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from ssn_feat.drawing.html import explained, section, table

KNOWN = {"section", "h2", "p", "div", "table", "figure", "figcaption", "thead", "tbody", "tr", "th", "td"}


class Read(HTMLParser):
    """Tags, and text by the tag that it stands in."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.text: dict[str, str] = {}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text[self.tags[-1]] = self.text.get(self.tags[-1], "") + data


# What HTML itself cannot hold or reads as another character: line ends, and control characters by their number.
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1)


@given(title=TEXT, line=TEXT, caption=TEXT, name=TEXT, head=TEXT, cell=TEXT)
def test_any_text_comes_out_as_it_went_in(title: str, line: str, caption: str, name: str, head: str, cell: str) -> None:
    read = Read(section(title, [line], {caption: {name: {head: cell}}}))
    assert set(read.tags) == KNOWN
    assert read.text["h2"].rstrip("\n") == title.rstrip("\n")
    assert read.text["p"].strip("\n") == line
    assert read.text["figcaption"].rstrip("\n") == caption
    assert read.text["th"].replace("\n", "") == head + name
    assert read.text["td"].startswith(cell)


def test_a_picture_begins_at_its_svg() -> None:
    page = section("Proposals", [], {}, '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg><g/></svg>')
    assert "<?xml" not in page
    assert "<svg><g/></svg>" in page


def test_whole_terms_are_explained() -> None:
    terms = {"AP": "precision & more", "mAP_N": "normalised", "wrong label": "another class"}
    assert explained("mAP of AP", terms) == 'mAP of <abbr title="precision &amp; more">AP</abbr>'
    assert explained("<mAP_N>", terms) == '&lt;<abbr title="normalised">mAP_N</abbr>&gt;'
    assert explained("AP<", None) == "AP&lt;"
    page = table("", {"wrong label": {"a": "AP"}, "wrong label of AP": {"a": ""}}, terms)
    assert page.count("<abbr") == 1


@given(TEXT)
def test_explained_text_comes_out_as_it_went_in(text: str) -> None:
    terms = {"a": "x", "<b>": "y", "a b": "z"}
    read = Read(f"<p>{explained(text, terms)}</p>")
    assert set(read.tags) <= {"p", "abbr"}
