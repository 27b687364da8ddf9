"""bbolt's file format: what lies at which byte.

The file is an array of pages; page ``p`` begins at byte ``p * page size``. A page that needs more room goes on over the
pages that follow it (*overflow*), and only the first has a header::

    page      id u64 | flags u16 | count u16 | overflow u32 | elements | data
    leaf      element: flags u32 | pos u32 | ksize u32 | vsize u32;  data: key value key value ...
    branch    element: pos u32 | ksize u32 | page id u64;            data: key key ...
    freelist  page ids u64, ascending; of 65535 or more, count is 65535 and the first number the true count
    meta      see ``meta``

    bucket    root page u64 | sequence u64: the value of a leaf's element with flag 1. Root 0: the bucket is *inline*,
              and a leaf page with id 0 follows as part of the value.

``pos`` counts from the element's own first byte. Keys ascend byte by byte. Every known writer packs keys and values in
order and without gaps, directly behind the elements: pages that do not look so are refused as damaged, which finds
nearly all damage to their structure. What nothing in the format can show is a changed byte inside a value, or inside a
key that stays in order, the size of the last value on a page, and whether a small value is a bucket: only the meta
pages have a checksum.

Numbers are in the machine's byte order and may lie anywhere; sizes are in bytes.
"""

from __future__ import annotations

import struct

from refimpl.contract.errors import Unknown

PAGE_HEADER = struct.Struct("=QHHI")
"""id, flags, count, overflow."""

LEAF_ELEMENT = struct.Struct("=IIII")
"""flags, pos, ksize, vsize."""

BRANCH_ELEMENT = struct.Struct("=IIQ")
"""pos, ksize, page id."""

KEY_PLACE = struct.Struct("=II")
"""pos and ksize, which both kinds of element have side by side."""

BUCKET_HEADER = struct.Struct("=QQ")
"""root, sequence."""

HEADER_SIZE = PAGE_HEADER.size
ELEMENT_SIZE = LEAF_ELEMENT.size

BRANCH, LEAF, META, FREELIST = 0x01, 0x02, 0x04, 0x10
"""Flags of pages."""

BUCKET_FLAG = 0x01
"""Flag of a leaf's element whose value is a bucket."""

EMPTY_BUCKET = BUCKET_HEADER.pack(0, 0) + PAGE_HEADER.pack(0, LEAF, 0, 0)
"""The value of a bucket without keys."""

MAX_VALUE_SIZE = 2**31 - 2
MAX_COUNT = 0xFFFF
"""Pages have fewer elements than this; a free list that has more stores their number apart."""

MAX_DEPTH = 64
"""Levels of one bucket's tree. Branches have two children or more, so no tree of real pages comes near."""

FIRST_PAGE = 2
"""Pages before it are the meta pages."""


class InvalidDatabase(Unknown):
    """The file is damaged, or no database. The kind is Unknown, as of all of the engine's errors in containerd.

    Args:
        message: what is wrong.
        page: the page that is; None where the message says it all.
        bare: as of any kind, for who writes something in front of the text of an error.
    """

    def __init__(self, message: str = "", page: int | None = None, *, bare: bool = True) -> None:
        self.reason = message
        self.page = page
        super().__init__(message if page is None else f"page {page}: {message}", bare=bare)
