"""A page as a browser would find it, without one."""

from collections import defaultdict
from html.parser import HTMLParser


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, the text of each kind, the cells of each table."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: defaultdict[str, list[str]] = defaultdict(list)
        self.cells: defaultdict[str, list[list[tuple[str, str | None]]]] = defaultdict(list)
        self._open: list[str] = []
        self._table = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        self.elements.append((tag, own))
        self._open.append(tag)
        self.texts[tag].append("")
        if tag == "table":
            self._table = own.get("data-name") or ""
        if tag == "tr" and "tbody" in self._open:
            self.cells[self._table].append([])
        if tag == "td":
            self.cells[self._table][-1].append(("", own.get("data-order")))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not self._open:
            return
        self.texts[self._open[-1]][-1] += data
        if "td" in self._open and self.cells[self._table]:
            text, exact = self.cells[self._table][-1][-1]
            self.cells[self._table][-1][-1] = (text + data, exact)
