"""A package index on this machine: the simple API, files, metadata, and what can go wrong.

It has the page of each project as JSON (PEP 691) and as HTML (PEP 503), hashes, and metadata files
(PEP 658). `python tests/local_index.py FOLDER` serves the wheels of a folder until it is stopped.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import html
import io
import json
import shutil
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.parser import HeaderParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from packaging.utils import canonicalize_name, parse_wheel_filename

from matrix._util.files import digest_of

JSON = "application/vnd.pypi.simple.v1+json"
_PARTS = 10  # in which a slow answer comes


@dataclass(frozen=True)
class Slow:
    """An answer that takes this many seconds to come, in parts."""

    seconds: float


Fault = int | tuple[int, Mapping[str, str]] | str | Slow


@dataclass
class Served:
    """What the index serves, how, and what it was asked for.

    `as_html`: it has no JSON, whatever a client prefers. `login`: name and password without which
    it answers 401. `faults`: by path, what the next requests of it get: a status, a status with
    headers, "half" of the file (it dies in the middle), or a Slow answer.
    """

    url: str = ""
    as_html: bool = False
    ranges: bool = False
    login: tuple[str, str] | None = None
    projects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    on_disk: dict[str, Path] = field(default_factory=dict)
    pages: dict[str, tuple[str, str]] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    users: list[str | None] = field(default_factory=list)
    sent: int = 0

    @property
    def url_with_login(self) -> str:
        """The address with name and password in it."""
        assert self.login is not None
        return self.url.replace("http://", f"http://{':'.join(self.login)}@")

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

    def add_wheel(self, wheel: Path, *, metadata: bool = True, **facts: Any) -> str:
        """Serve a wheel of the disk as it is; returns its path. `metadata`: also as PEP 658."""
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith("info/METADATA"))
            text = archive.read(name).decode()
        python = HeaderParser().parsestr(text)["Requires-Python"]
        project = str(parse_wheel_filename(wheel.name)[0])
        known = {
            "requires_python": python,
            "hashes": {"sha256": digest_of(wheel)},
            "size": wheel.stat().st_size,
            **facts,
        }
        path = self.add(project, wheel.name, pep658=text if metadata else "", **known)
        del self.contents[path]  # it may be too large for memory
        self.on_disk[path] = wheel
        return path

    def change(self, wheel: Path) -> str:
        """Serve another wheel under the name that one had, as a page whose file changed."""
        self.withdraw(wheel.name)
        return self.add_wheel(wheel, upload_time="2026-03-02T10:00:00.000000Z")

    def withdraw(self, filename: str) -> None:
        """Serve a file no longer, neither on a page nor by its address."""
        for rows in self.projects.values():
            rows[:] = [row for row in rows if row["filename"] != filename]
        for path in (f"/files/{filename}", f"/files/{filename}.metadata"):
            self.contents.pop(path, None)
            self.on_disk.pop(path, None)

    @staticmethod
    def wheel(members: Mapping[str, str | bytes]) -> bytes:
        """Return a wheel with these members."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return out.getvalue()

    @staticmethod
    def sdist(stem: str, members: Mapping[str, str]) -> bytes:
        """Return a source distribution with these members below its folder."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            for name, content in members.items():
                info = tarfile.TarInfo(f"{stem}/{name}")
                info.size = len(content.encode())
                archive.addfile(info, io.BytesIO(content.encode()))
        return out.getvalue()

    def page(self, project: str, *, as_html: bool) -> tuple[str, str]:
        """Return the content type and text of a project's page."""
        if project in self.pages:
            return self.pages[project]
        rows = self.projects[project]
        if not as_html:
            meta = {"api-version": "1.1"}
            return JSON, json.dumps({"meta": meta, "name": project, "files": rows})
        return "text/html", "<!DOCTYPE html>" + "".join(_link(row) for row in rows)

    def root(self, *, as_html: bool) -> tuple[str, str]:
        """Return the content type and text of the page of all projects."""
        names = sorted({*self.projects, *self.pages})
        if not as_html:
            rows = [{"name": name} for name in names]
            return JSON, json.dumps({"meta": {"api-version": "1.1"}, "projects": rows})
        links = (f'<a href="{name}/">{name}</a>' for name in names)
        return "text/html", "<!DOCTYPE html>" + "".join(links)


def _link(row: Mapping[str, Any]) -> str:
    digest = row["hashes"].get("sha256")
    href = row["url"] + (f"#sha256={digest}" if digest else "")
    more = ""
    if row["requires-python"]:
        more += f' data-requires-python="{html.escape(row["requires-python"])}"'
    if row["yanked"]:
        more += f' data-yanked="{html.escape(str(row["yanked"]))}"'
    if "core-metadata" in row:
        more += f' data-core-metadata="sha256={row["core-metadata"]["sha256"]}"'
    return f'<a href="{html.escape(href)}"{more}>{html.escape(row["filename"])}</a>'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    served: Served

    def do_GET(self) -> None:
        path = unquote(self.path)
        self.served.asked.append((path, self.headers.get("Range")))
        self.served.users.append(self.headers.get("Authorization"))
        queue = self.served.faults.get(path, [])
        fault = queue.pop(0) if queue else None
        if not self._allowed():
            self._answer(401, b"", {"WWW-Authenticate": 'Basic realm="index"'})
        elif isinstance(fault, (int, tuple)):
            status, headers = fault if isinstance(fault, tuple) else (fault, {})
            self._answer(status, b"", headers)
        elif path.startswith("/simple/"):
            # Also below a folder, as an index has one for each commit; that may have its own page.
            folders = path.strip("/").split("/")[1:]
            own = next((folder for folder in folders if folder in self.served.pages), None)
            self._page(own or (folders[-1] if folders else ""), fault)
        elif path in self.served.on_disk and not fault and not self.served.ranges:
            self._stream(self.served.on_disk[path])
        elif path in self.served.on_disk:
            self._file(self.served.on_disk[path].read_bytes(), fault)
        elif path in self.served.contents:
            self._file(self.served.contents[path], fault)
        else:
            self._answer(404, b"", {})

    def do_HEAD(self) -> None:
        self.do_GET()

    def _allowed(self) -> bool:
        if self.served.login is None:
            return True
        wanted = base64.b64encode(":".join(self.served.login).encode()).decode()
        return self.headers.get("Authorization") == f"Basic {wanted}"

    def _page(self, project: str, fault: Fault | None) -> None:
        as_html = self.served.as_html or JSON not in self.headers.get("Accept", JSON)
        project = canonicalize_name(project)
        if not project:
            kind, text = self.served.root(as_html=as_html)
        elif project in self.served.projects or project in self.served.pages:
            kind, text = self.served.page(project, as_html=as_html)
        else:
            self._answer(404, b"", {})
            return
        self._answer(200, text.encode(), {"Content-Type": kind}, fault)

    def _file(self, content: bytes, fault: Fault | None) -> None:
        asked = self.headers.get("Range", "")
        start, end, status, headers = 0, len(content), 200, {}
        if self.served.ranges and asked.startswith("bytes="):
            first, _, last = asked[6:].partition("-")
            start = int(first) if first else max(0, len(content) - int(last))
            end = min(len(content), int(last) + 1) if first and last else len(content)
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        self._answer(status, content[start:end], headers, fault)

    def _stream(self, path: Path) -> None:
        size = path.stat().st_size
        self._head(200, {"Content-Length": str(size)})
        if self.command != "HEAD":
            self.served.sent += size
            # Who asked may have seen enough.
            with path.open("rb") as source, contextlib.suppress(ConnectionError):
                shutil.copyfileobj(source, self.wfile, 1 << 20)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _answer(
        self, status: int, body: bytes, headers: Mapping[str, str], fault: Fault | None = None
    ) -> None:
        self._head(status, {"Content-Length": str(len(body)), **headers})
        if self.command == "HEAD":
            return
        if fault == "half":
            body = body[: len(body) // 2]
        self.served.sent += len(body)
        if not isinstance(fault, Slow):
            self.wfile.write(body)
            return
        part = len(body) // _PARTS + 1
        for start in range(0, len(body), part):
            time.sleep(fault.seconds / _PARTS)
            self.wfile.write(body[start : start + part])

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(*wheels: Path, port: int = 0) -> Iterator[Served]:
    """Serve an index, with these wheels on it, as long as the block runs; port 0: any free one."""
    index = Served()
    server = ThreadingHTTPServer(
        ("127.0.0.1", port), type("Handler", (_Handler,), {"served": index})
    )
    index.url = f"http://127.0.0.1:{server.server_address[1]}/simple/"
    for wheel in wheels:
        index.add_wheel(wheel)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def main() -> None:
    """Serve the wheels of a folder until somebody stops it; the address is printed first."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--html", action="store_true", help="serve no JSON")
    options = parser.parse_args()
    with serving(*sorted(options.folder.glob("*.whl")), port=options.port) as index:
        index.as_html = options.html
        print(index.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
