"""Where the pages of a PDF are in it: what is known of one page helps to find the next, and no page is held."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pypdf import PdfReader
    from pypdf.generic import DictionaryObject, IndirectObject

MOST_LEVELS = 100
"""pypdf's own bound; pdfium goes down 1,024."""

MOST_ENTRIES = 300_000
"""Of the tree: 100,000 pages, each in two nodes of its own."""

_OBJECTS_HELD, _STEPS = 5_000, 1_000
"""Objects that a walk leaves in the reader, 3 KB each, and entries after which it looks: objects that are packed
together come together, and would be unpacked for each entry."""


@dataclass(slots=True)
class _Node:
    number: int
    kids: array[int]
    done: int = 0


class PageTree:
    """The page tree of one file, walked as far as it was needed.

    pypdf's `reader.pages` makes an object of every page: 0.14 ms and 3 KB for each of them, for one page. pdfium goes
    from page to page; the counts of the nodes between it does not ask, so they are no short cut here.
    It holds numbers alone (8 bytes a page, and the nodes above the last), and outlives its reader.
    """

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._pages = array("Q")
        self._path: list[_Node] = []
        self._nodes: dict[int, DictionaryObject] = {}
        self._entries = 0

    def find(self, reader: PdfReader, number: int) -> IndirectObject | None:
        """The page of this number, from 0. None: the tree has an odd entry before it, or no such page.

        Odd is what pypdf and pdfium could count differently: what is no page (pypdf passes over it, and pdfium has a
        damaged page), no reference, has another type than its kids tell, a circle.

        Raises:
            Exception: of any class, where the file is damaged.
        """
        root: Any = reader.trailer["/Root"]
        count = root["/Pages"].get("/Count")
        if not isinstance(count, int) or not 0 <= number < count:
            return None
        if not self._entries and not self._enter(reader, _number(root.raw_get("/Pages"))):
            return None
        while len(self._pages) <= number:
            if not self._step(reader):
                return None
            if self._entries % _STEPS == 0 and len(reader.resolved_objects) > _OBJECTS_HELD:
                self.forget(reader)
        for node in self._path:  # of those that another reader has met
            if node.number not in self._nodes:
                self._keep(node.number, _at(reader, node.number).get_object())
        self.forget(reader)
        return _at(reader, self._pages[number])

    def forget(self, reader: PdfReader) -> None:
        """Lets the reader hold nothing but the nodes above the page that was found last, without their kids.

        What was made of a page stays not, nor what was changed for it. To read a node of 20,000 kids takes 50 ms.
        """
        from pypdf.generic import DictionaryObject

        path = {node.number for node in self._path}
        self._nodes = {number: node for number, node in self._nodes.items() if number in path}
        reader.resolved_objects.clear()
        for number, node in self._nodes.items():
            copy = DictionaryObject(node)
            copy.indirect_reference = _at(reader, number)
            reader.resolved_objects[number & 0xFFFF, number >> 16] = copy

    def leave(self) -> None:
        """The reader is done with; the next may be another."""
        self._nodes.clear()

    def _step(self, reader: PdfReader) -> bool:
        from pypdf.generic import DictionaryObject

        while self._path and self._path[-1].done == len(self._path[-1].kids):
            self._path.pop()
        if not self._path or self._entries > MOST_ENTRIES:
            return False
        above = self._path[-1]
        number = above.kids[above.done]
        entry = _at(reader, number).get_object() if number else None
        if not isinstance(entry, DictionaryObject):
            return False
        if "/Kids" in entry:
            if entry.get("/Type", "/Pages") != "/Pages" or not self._enter(reader, number):
                return False
        elif entry.get("/Type") == "/Page":
            self._pages.append(number)
            self._entries += 1
        else:
            return False
        above.done += 1
        return True

    def _enter(self, reader: PdfReader, number: int) -> bool:
        from pypdf.generic import ArrayObject, DictionaryObject

        node = _at(reader, number).get_object() if number else None
        if not isinstance(node, DictionaryObject) or any(number == above.number for above in self._path):
            return False
        kids = node.get("/Kids")
        kids = kids.get_object() if kids is not None else None
        if not isinstance(kids, ArrayObject) or len(self._path) > MOST_LEVELS:
            return False
        self._path.append(_Node(number, array("Q", map(_number, kids))))
        self._keep(number, node)
        self._entries += 1
        return True

    def _keep(self, number: int, node: Any) -> None:
        from pypdf.generic import DictionaryObject

        self._nodes[number] = DictionaryObject({key: node.raw_get(key) for key in node if key != "/Kids"})


def _number(reference: Any) -> int:
    """A reference as a number, 0 if it is none: the object's, and in the lowest 16 bits its generation."""
    from pypdf.generic import IndirectObject

    if not isinstance(reference, IndirectObject):
        return 0
    fits = 0 < reference.idnum < 1 << 47 and 0 <= reference.generation < 1 << 16
    return reference.idnum << 16 | reference.generation if fits else 0


def _at(reader: PdfReader, number: int) -> IndirectObject:
    from pypdf.generic import IndirectObject

    return IndirectObject(number >> 16, number & 0xFFFF, reader)
