"""Inline SVG: a figure as an element of a page."""

import io
import re
from xml.etree import ElementTree

from fv.report.pictures import Picture

_SVG, _LINK = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _LINK[1:-5])


def inline_svg(picture: Picture) -> str:
    """Convert a figure to an SVG element with ids unique on the page, and its caption for screen readers."""
    file = io.StringIO()
    picture.figure.savefig(file, format="svg")
    root = ElementTree.fromstring(file.getvalue())
    if (metadata := root.find(f"{{{_SVG}}}metadata")) is not None:
        root.remove(metadata)
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == "id":
                element.set(name, f"{picture.name}-{value}")
            elif name == _LINK:
                element.set(name, value.replace("#", f"#{picture.name}-", 1) if value.startswith("#") else value)
            elif "url(#" in value:
                element.set(name, re.sub(r"url\(#", f"url(#{picture.name}-", value))
    root.set("role", "img")
    root.set("aria-label", picture.caption)
    # matplotlib sets sizes in points; the page's stylesheet sets a figure's width instead.
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    return ElementTree.tostring(root, encoding="unicode")
