"""The page as a text in which its data can be read."""

from __future__ import annotations

import json
import re

from matrix.report.page.encoding import unembedded

_DATA = re.compile(r'(<script type="text/plain" id="data">)([^<]*)(?=</script>)')


def data_of(page: str) -> object:
    """Return the data that stands in a page."""
    (found,) = _DATA.findall(page)
    return unembedded(found[1])


def readable(page: str) -> str:
    """Return the page with its data as JSON."""
    content = json.dumps(data_of(page), separators=(",", ":"), ensure_ascii=False)
    return _DATA.sub(lambda found: found[1] + content, page)
