"""Which page of a PDF is which: what workers count (pdfium) and what is written (qpdf) may differ.

An entry of the page tree that is no page is one for pdfium, which fails, and none for qpdf, which drops it: the text of
each page behind it lay on the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pikepdf

_MOST_LEVELS = 1024  # as many as pdfium follows
_MOST_ENTRIES = 1_000_000


class UnlikeTreeError(ValueError):
    """It is not known which page is which."""


def listed_places(pdf: pikepdf.Pdf) -> list[int | None]:
    """Each page's place in ``pdf.pages``, by its number as pdfium counts (CPDF_Document::TraversePDFPages).

    Args:
        pdf: just opened, without ``inherit_page_attributes``: qpdf mends the tree as soon as it looks for its pages.

    Returns:
        None stands for an entry that is no page.

    Raises:
        UnlikeTreeError: qpdf has other pages than the tree lists.
    """
    leaves = _leaves(pdf)
    places: list[int | None] = []
    pages = [page.obj.objgen for page in pdf.pages]
    taken: set[tuple[int, int]] = set()
    following = 0
    for leaf in leaves:
        if leaf is None:
            places.append(None)
            continue
        # qpdf copies a page that is there twice, and gives numbers to those that have none.
        unsure = leaf == (0, 0) or leaf in taken
        if following >= len(pages) or not (unsure or pages[following] == leaf):
            raise UnlikeTreeError("its page tree is damaged; `qpdf in.pdf out.pdf` may repair it")
        taken.add(leaf)
        places.append(following)
        following += 1
    if following != len(pages):
        raise UnlikeTreeError("its page tree is damaged; `qpdf in.pdf out.pdf` may repair it")
    return places


def _leaves(pdf: pikepdf.Pdf) -> list[tuple[int, int] | None]:
    """Object numbers of the tree's leaves; None for what is no dictionary."""
    from pikepdf import Array, Dictionary

    leaves: list[tuple[int, int] | None] = []
    root = pdf.Root.get("/Pages")
    if not isinstance(root, Dictionary):
        raise UnlikeTreeError("it has no pages")
    stack = [(root, iter([root]) if not isinstance(root.get("/Kids"), Array) else iter(root.Kids))]
    entries = 0
    while stack:
        node, kids = stack[-1]
        kid = next(kids, stack)
        if kid is stack:
            stack.pop()
            continue
        entries += 1
        if entries > _MOST_ENTRIES or len(stack) > _MOST_LEVELS:
            raise UnlikeTreeError("its page tree is too large, or goes in a circle")
        if not isinstance(kid, Dictionary):
            leaves.append(None)
        elif "/Kids" not in kid:
            leaves.append(kid.objgen)
        elif isinstance(kid.get("/Kids"), Array) and not (kid.is_indirect and kid.objgen == node.objgen):
            stack.append((kid, iter(kid.Kids)))
    return leaves
