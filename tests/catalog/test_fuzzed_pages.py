"""Pages of an index that are damaged: files with what an index may say, or one line."""

from __future__ import annotations

import contextlib
import json
import os
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_index import JSON, serving
from matrix.catalog.index import FetchError, Index

ROW = {
    "filename": "torch-2.16.0-cp312-cp312-manylinux_2_28_x86_64.whl",
    "url": "../../files/torch-2.16.0-cp312-cp312-manylinux_2_28_x86_64.whl",
    "hashes": {"sha256": "0" * 64},
    "size": 5,
    "upload-time": "2026-03-01T10:00:00.000000Z",
    "requires-python": ">=3.10",
    "yanked": False,
}
PAGE = json.dumps({"meta": {"api-version": "1.1"}, "name": "torch", "files": [ROW, ROW]})
HTML = (
    "<!DOCTYPE html><html><body><a href='../../files/torch-2.16.0-py3-none-any.whl#sha256="
    + "0" * 64
    + "' data-requires-python='&gt;=3.10' data-core-metadata='true'>torch-2.16.0-py3-none-any.whl"
    "</a></body></html>"
)
PIECES = st.sampled_from(
    [
        "\0", "\x1b[31m", "{", "[", "]", "}", '"', "null", "true", "-1", "1e400", "9" * 5000,
        "[" * 3000, "<a href='", "<base href='file:///etc/'>", "<!--", "&#0;", "&#xd800;", "../",
        "//", "http://[", "file:///etc/passwd", "#sha256=", "2026-02-30T00:00:00Z", "\ud7ff",
        "javascript:", "\r\n", "==", "<script>",
    ]
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, text: str) -> str:
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        end = at + draw(st.integers(0, 30))
        piece = draw(PIECES | st.text(max_size=8))
        text = text[:at] + piece + text[draw(st.sampled_from([at, end])) :]
    return text


def test_markup_that_the_parser_rejects_is_refused_in_a_line() -> None:
    hosts = mock.patch.dict(os.environ, NO_PROXY="*", NETRC="/dev/null")
    with hosts, serving() as served, contextlib.closing(Index(served.url, tries=1)) as index:
        served.pages["torch"] = ("text/html", "<!DOCTYPE html><html><body><![n</body></html>")
        with pytest.raises(FetchError, match="not a page of the simple API"):
            index.files("torch")


def test_a_name_that_leads_to_another_folder_is_left_out() -> None:
    hosts = mock.patch.dict(os.environ, NO_PROXY="*", NETRC="/dev/null")
    with hosts, serving() as served, contextlib.closing(Index(served.url, tries=1)) as index:
        names = ("torch-2.16.0-../py3-none-any.whl", "torch-2.16.0-py3-none-any.whl")
        page = "".join(f"<a href='../../files/a.whl'>{name}</a>" for name in names)
        served.pages["torch"] = ("text/html", f"<!DOCTYPE html><html><body>{page}</body></html>")
        assert [file.filename for file in index.files("torch")] == [names[1]]


@pytest.mark.parametrize(
    ("kind", "text"), [(JSON, PAGE), ("text/html", HTML)], ids=["json", "html"]
)
def test_a_damaged_page_is_read_or_refused_in_a_line(kind: str, text: str) -> None:
    hosts = mock.patch.dict(os.environ, NO_PROXY="*", NETRC="/dev/null")
    with hosts, serving() as served, contextlib.closing(Index(served.url, tries=1)) as index:

        @settings(max_examples=60)
        @given(damaged(text))
        def read(page: str) -> None:
            served.pages["torch"] = (kind, page)
            try:
                files = index.files("torch")
            except FetchError as error:
                assert str(error).strip() and "\n" not in str(error)
                return
            for file in files:
                assert "/" not in file.filename and file.filename not in ("", ".", "..")
                assert file.sha256 is None or len(file.sha256) == 64
                assert file.size is None or isinstance(file.size, int)

        read()
