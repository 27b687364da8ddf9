"""``index.html``: one self-contained page that an author can link to.

Template, style and script lie beside this module.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def page(values: dict[str, Any]) -> str:
    """The page for a report's values: one file that needs no network. Without scripts it says where the data is."""
    files = resources.files("conformance.report")

    def text(name: str) -> str:
        return (files / name).read_text()

    # "</" would end the script element in the middle of a string.
    data = json.dumps(values, ensure_ascii=False).replace("</", "<\\/")
    template = text("page.html")
    for mark, content in (("/*style*/", text("page.css")), ("/*script*/", text("page.js")), ("/*data*/", data)):
        before, _, after = template.partition(mark)
        template = before + content + after
    return template
