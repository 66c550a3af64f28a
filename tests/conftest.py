"""A package index of one's own, on this machine: the simple API, files, and what goes wrong."""

from __future__ import annotations

import contextlib
import hashlib
import html
import io
import json
import os
import signal
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

with contextlib.suppress(ImportError):  # lint and page have no property to test
    from hypothesis import Phase, settings

    # No clock judges a test: machines are shared. The same commit gives the same answer in CI.
    settings.register_profile("dev", deadline=None, max_examples=20)
    settings.register_profile(
        "ci", deadline=None, max_examples=100, derandomize=True, print_blob=True
    )
    settings.register_profile("nightly", deadline=None, max_examples=1000, print_blob=True)
    # A mutant that fails need not fail with the smallest example, which takes long to find.
    settings.register_profile(
        "mutation", deadline=None, max_examples=20, phases=(Phase.explicit, Phase.generate)
    )
    profile = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
    settings.load_profile(profile)

# Tests judge the package's own releases, not the candidates of whoever runs them.
os.environ["MATRIX_CANDIDATES"] = "/nowhere/candidates.toml"

JSON = "application/vnd.pypi.simple.v1+json"


@dataclass
class Served:
    """What the index serves, how, and what it was asked for.

    `faults`: by path, what the next requests of it get instead: a status, a status with headers, or
    "half" of the file.
    """

    url: str = ""
    as_html: bool = False
    ranges: bool = False
    projects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    pages: dict[str, tuple[str, str]] = field(default_factory=dict)
    faults: dict[str, list[Any]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    users: list[str | None] = field(default_factory=list)
    sent: int = 0

    def add(
        self, project: str, filename: str, content: bytes = b"", *, pep658: str = "", **facts: Any
    ) -> str:
        """Serve a file of a project; returns its path. `pep658`: the metadata beside it."""
        path = f"/files/{filename}"
        self.contents[path] = content
        row = {
            "filename": filename,
            "url": f"../..{path}" if facts.pop("relative", False) else f"{self.url[:-8]}{path}",
            "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
            "size": len(content),
            "upload-time": "2026-03-01T10:00:00.000000Z",
            "requires-python": ">=3.10",
            "yanked": False,
        }
        if pep658:
            self.contents[f"{path}.metadata"] = pep658.encode()
            row["core-metadata"] = {"sha256": hashlib.sha256(pep658.encode()).hexdigest()}
        row |= {key.replace("_", "-"): value for key, value in facts.items()}
        self.projects.setdefault(project, []).append(row)
        return path

    @staticmethod
    def wheel(members: Mapping[str, str | bytes]) -> bytes:
        """A wheel with these members."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return out.getvalue()

    @staticmethod
    def sdist(stem: str, members: Mapping[str, str]) -> bytes:
        """A source distribution with these members below its folder."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            for name, content in members.items():
                info = tarfile.TarInfo(f"{stem}/{name}")
                info.size = len(content.encode())
                archive.addfile(info, io.BytesIO(content.encode()))
        return out.getvalue()

    def page(self, project: str) -> tuple[str, str]:
        """The content type and text of a project's page."""
        if project in self.pages:
            return self.pages[project]
        rows = self.projects[project]
        if not self.as_html:
            return JSON, json.dumps(
                {"meta": {"api-version": "1.1"}, "name": project, "files": rows}
            )
        return "text/html", "<!DOCTYPE html>" + "".join(_link(row) for row in rows)


def _link(row: Mapping[str, Any]) -> str:
    digest = row["hashes"].get("sha256")
    href = row["url"] + (f"#sha256={digest}" if digest else "")
    more = f' data-requires-python="{html.escape(row["requires-python"])}"'
    if row["yanked"]:
        more += f' data-yanked="{html.escape(str(row["yanked"]))}"'
    if "core-metadata" in row:
        more += f' data-core-metadata="sha256={row["core-metadata"]["sha256"]}"'
    return f'<a href="{html.escape(href)}"{more}>{html.escape(row["filename"])}</a>'


def _handler(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            served.asked.append((self.path, self.headers.get("Range")))
            served.users.append(self.headers.get("Authorization"))
            queue = served.faults.get(self.path, [])
            fault = queue.pop(0) if queue else None
            if isinstance(fault, (int, tuple)):
                status, headers = fault if isinstance(fault, tuple) else (fault, {})
                self.answer(status, b"", headers)
            elif self.path.startswith("/simple/"):
                project = self.path.split("/")[2]
                if project not in served.projects and project not in served.pages:
                    self.answer(404, b"", {})
                    return
                kind, text = served.page(project)
                self.answer(200, text.encode(), {"Content-Type": kind})
            elif self.path in served.contents:
                self.file(served.contents[self.path], half=fault == "half")
            else:
                self.answer(404, b"", {})

        def file(self, content: bytes, *, half: bool) -> None:
            asked = self.headers.get("Range", "")
            start, end, status, headers = 0, len(content), 200, {}
            if served.ranges and asked.startswith("bytes="):
                first, _, last = asked[6:].partition("-")
                start = int(first) if first else max(0, len(content) - int(last))
                end = min(len(content), int(last) + 1) if first and last else len(content)
                status = 206
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
            part = content[start:end]
            headers["Content-Length"] = str(len(part))
            self.answer(status, part[: len(part) // 2] if half else part, headers)

        def answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            served.sent += len(body)
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """An index on this machine, with nothing on it yet."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    monkeypatch.setenv("NETRC", "/dev/null")
    index = Served()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(index))
    index.url = f"http://127.0.0.1:{server.server_address[1]}/simple/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield index
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> Iterator[None]:
    """A job in the background starts with SIGINT ignored, and so would all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
