"""Reads HTML that the page makes, as a browser would: what a test finds here has been unescaped once, by a parser."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
from PIL import Image

VOID = ("img", "input", "br")

EVIL = """<i onload=x()>"'&amp;</i>=\\"""
"""A name that would be markup, or end an attribute, wherever it is not escaped. No page has an <i> of its own."""


class Element(dict):
    """The attributes of an element, its tag and classes, and the text of everything inside it."""

    def __init__(self, tag: str, attributes: list[tuple[str, str | None]]):
        super().__init__(attributes)
        assert len(attributes) == len(self), f"<{tag}> has an attribute twice"
        self.tag, self.classes, self.text = tag, (self.get("class") or "").split(), ""


class _Parser(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attributes):
        self.found.append(Element(tag, attributes))
        if tag not in VOID:
            self.open.append(self.found[-1])

    def handle_endtag(self, tag):
        assert self.open and self.open.pop().tag == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        for element in self.open:
            element.text += data


def elements(html: str) -> list[Element]:
    """All elements, in the order of the document. Fails where a tag is not closed in its place."""
    parser = _Parser()
    parser.feed(str(html))
    parser.close()
    assert parser.open == [], f"left open: {[element.tag for element in parser.open]}"
    for element in parser.found:
        if element.tag not in ("pre", "code"):
            element.text = " ".join(element.text.split())
    return parser.found


def find(html: str, tag: str, kind: str | None = None) -> list[Element]:
    """The elements of a tag, and of a class where `kind` is one."""
    return [found for found in elements(html) if found.tag == tag and (kind is None or kind in found.classes)]


def text(html: str) -> str:
    return elements(f"<div>{html}</div>")[0].text


def image_in(src: str) -> Image.Image:
    """The image in a data URL."""
    head, data = src.split(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


def pixels(src: str) -> np.ndarray:
    return np.asarray(image_in(src))
