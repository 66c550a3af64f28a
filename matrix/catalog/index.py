"""A client of a package index (simple API): which files it has, their metadata, the files.

Nothing that an index or a file holds is trusted: hashes are compared, sizes are bounded, and no
code of theirs runs.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from matrix._util import addresses
from matrix._util.addresses import without_logins
from matrix._util.archives import BAD_ARCHIVE
from matrix._util.files import digest_of
from matrix._util.scratch import Scratch
from matrix._util.text import pip_install
from matrix.catalog.index_config import index_address
from matrix.catalog.published_file import PublishedFile, published_file
from matrix.errors import MatrixError

if TYPE_CHECKING:
    import requests

_BLOCK = 1 << 16  # bytes; a block that breaks off is not kept
_TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two pieces of an answer
_PATIENCE = 60  # seconds at most before the next try, even where an index asks for more
_BUSY = (429, 500, 502, 503, 504)
_REMEDIES = {
    401: "; put its user and password into ~/.netrc",
    403: "; put a user with access into ~/.netrc",
    404: "; it does not exist: name another",
}
_LARGE = 100 << 20  # bytes from which a file counts as one of the few that may lie on disk at once
_FEW = 2
_MEMBER = 8 << 20  # bytes; the metadata and sources that are read here are far smaller
_UNPACKED = 4 << 30  # bytes of a whole source distribution; vLLM 0.33.0 has 0.14 GiB
_METADATA = re.compile(r"[^/]+\.dist-info/METADATA|[^/]+/PKG-INFO")


class FetchError(MatrixError):
    """An index, or a file on it, cannot be read or is not what it should be."""


class NoProjectError(FetchError):
    """An index answers, and does not have the project."""


class Index:
    """A client of one index; threads may share it.

    `url` is its address (default: that of uv's or pip's configuration, else PyPI). A request whose
    answer is "busy" (429, 5xx) or breaks off is repeated, up to `tries` times in all, after
    `backoff` seconds, then twice as many, and so on, or after the answer's Retry-After. Raises
    MatrixError if the extra `index` is not installed.
    """

    def __init__(self, url: str | None = None, *, tries: int = 5, backoff: float = 1.0) -> None:
        try:
            import pypi_simple
            from pypi_simple.client import USER_AGENT

            from matrix.catalog.index_session import new_session
        except ImportError as error:
            raise MatrixError(
                f"{error.name} is not installed; it reads the index: {pip_install('index')}"
            ) from None
        # A page of a newer form is read, or refused by what is in it.
        warnings.filterwarnings("ignore", category=pypi_simple.UnexpectedRepoVersionWarning)
        self.url = _web_address(url or index_address() or pypi_simple.PYPI_SIMPLE_ENDPOINT)
        self._tries, self._backoff = tries, backoff
        self._stopped = threading.Event()
        self._few = threading.BoundedSemaphore(_FEW)
        self._ranged: dict[str, bool] = {}
        self._session = new_session(USER_AGENT, tries, backoff, busy=_BUSY, patience=_PATIENCE)
        self._pages = pypi_simple.PyPISimple(
            self.url, session=self._session, accept=pypi_simple.ACCEPT_JSON_PREFERRED
        )

    def stop(self) -> None:
        """Stop all threads: what is being fetched ends with a FetchError."""
        self._stopped.set()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def files(self, project: str) -> tuple[PublishedFile, ...]:
        """Return the wheels and source distributions of a project, in the order of the index.

        Files with another kind of name are left out. Raises FetchError: no such project, no answer,
        or an answer that is not a page of the simple API.
        """
        from bs4.builder import ParserRejectedMarkup  # pypi-simple reads HTML by it
        from pypi_simple import NoSuchProjectError, UnsupportedRepoVersionError

        shown = addresses.without_secrets(self.url)
        try:
            with self._named_errors(f"{project}: the index {shown}"):
                page = self._pages.get_project_page(project, timeout=_TIMEOUT)
        except NoSuchProjectError:
            raise NoProjectError(
                f"{project}: is not on the index {shown} (404); name another: --index"
            ) from None
        except (
            UnsupportedRepoVersionError,
            ParserRejectedMarkup,
            ValueError,
            RecursionError,
        ) as error:
            raise FetchError(
                f"{project}: what the index {shown} answers is not a page of the simple"
                f" API ({_first_line(error)}); name another: --index"
            ) from None
        found = (published_file(package, project, self.url) for package in page.packages)
        return tuple(file for file in found if file is not None)

    def metadata(self, file: PublishedFile) -> str:
        """Return the metadata of a file, as the index serves it, else from the file itself.

        Raises FetchError as `fetch` does, or where the file contains no metadata.
        """
        if (text := self.served_metadata(file)) is not None:
            return text
        found = self.members(file, lambda name: bool(_METADATA.fullmatch(name)))
        if not found:
            raise FetchError(
                f"{file.filename}: contains no metadata; it is neither a wheel nor an sdist"
            )
        return found[min(found)]

    def served_metadata(self, file: PublishedFile) -> str | None:
        """Return the metadata that the index serves of a file (PEP 658), None if it does not.

        Raises FetchError: a wrong hash, or a server that does not answer.
        """
        if not file.has_metadata:
            return None
        address = urlsplit(file.url)
        url = urlunsplit(address._replace(path=f"{address.path}.metadata"))
        with self._named_errors(f"{file.filename}.metadata"):
            answer = self._session.get(url, timeout=_TIMEOUT)
            if answer.status_code == 404:
                return None
            answer.raise_for_status()
        digest = hashlib.sha256(answer.content).hexdigest()
        if file.metadata_sha256 not in (None, digest):
            raise FetchError(
                f"{file.filename}.metadata: its sha256 is {digest}, and the index has"
                f" {file.metadata_sha256}; not read"
            )
        return _text(answer.content, f"{file.filename}.metadata")

    def digest(self, file: PublishedFile) -> str:
        """Return the SHA-256 of a file, as the index says or, where it does not, of its bytes.

        Raises FetchError if the file does not come whole.
        """
        if file.sha256 is not None:
            return file.sha256
        with Scratch("index") as folder:
            return self.download(file, folder / "file")

    def download(self, file: PublishedFile, path: Path) -> str:
        """Fetch a file of which no hash is known, and return its SHA-256.

        Raises FetchError if it does not come whole.
        """
        try:
            with path.open("w+b") as out:
                return self._receive(file, out)
        except OSError as error:
            raise FetchError(f"{path.parent}: cannot be written ({error.strerror})") from None

    def ranged(self, file: PublishedFile) -> bool:
        """Tell whether the server of this file can send a part of it (HTTP ranges)."""
        host = urlsplit(file.url).netloc
        if host not in self._ranged:
            with (
                self._named_errors(file.filename),
                self._session.get(
                    file.url, headers={"Range": "bytes=0-0"}, timeout=_TIMEOUT, stream=True
                ) as answer,
            ):
                answer.raise_for_status()
                self._ranged[host] = answer.status_code == 206
        return self._ranged[host]

    def members(self, file: PublishedFile, wanted: Callable[[str], bool]) -> dict[str, str]:
        """Return the text of the members of a file whose name is wanted.

        Of a wheel only these parts are fetched, where the server can send parts; else the whole
        file is fetched, read and deleted. Raises FetchError as `fetch` and `read_members` do.
        """
        if file.is_wheel and self.ranged(file):
            found = self._remote_members(file, wanted)
            if found is not None:
                return found
        large = file.size is None or file.size >= _LARGE
        with (
            self._one_of_few(large=large),
            Scratch("index") as folder,
        ):
            return read_members(self.fetch(file, folder), wanted)

    def parts(self, file: PublishedFile, wanted: Callable[[str], bool]) -> dict[str, str] | None:
        """Return the text of the wanted members of a wheel, of which only these parts are fetched.

        None if the server does not send parts of it. Raises FetchError as `members` does.
        """
        return self._remote_members(file, wanted) if self.ranged(file) else None

    def fetch(self, file: PublishedFile, folder: Path) -> Path:
        """Fetch a file into a folder, under its own name, and return its path.

        The file is there complete and with the right SHA-256, or not at all: until then its name is
        NAME.part. A transfer that breaks off is resumed; a file with the right hash is not fetched
        again. Raises FetchError: no hash to compare with, half a file, a wrong hash, a server that
        does not answer, a disk that refuses.
        """
        name = file.filename
        if PurePosixPath(name).name != name or "\\" in name or name.startswith("."):
            raise FetchError(f"{name!r}: is not the name of a file; do not trust the index")
        if file.sha256 is None:
            raise FetchError(f"{name}: the index gives no sha256 for it, so it is not fetched")
        whole, part = folder / name, folder / f"{name}.part"
        try:
            if whole.is_file() and digest_of(whole) == file.sha256:
                return whole
            with part.open("w+b") as out:
                digest = self._receive(file, out)
            if digest != file.sha256:
                raise FetchError(
                    f"{name}: its sha256 is {digest}, and the index has {file.sha256}; not kept"
                )
            part.replace(whole)
        except OSError as error:
            raise FetchError(f"{folder}: cannot be written ({error.strerror or error})") from None
        finally:
            part.unlink(missing_ok=True)
        return whole

    def _receive(self, file: PublishedFile, out: IO[bytes]) -> str:
        """Write the file's bytes and return their SHA-256; resume a transfer that breaks off."""
        digest, broken = hashlib.sha256(), ""
        for attempt in range(self._tries):
            if attempt:
                self._stopped.wait(min(self._backoff * 2 ** (attempt - 1), _PATIENCE))
            start = out.tell()
            with self._answer(file, start) as answer:
                part = answer.headers.get("Content-Range", "")
                if start and not part.startswith(f"bytes {start}-"):
                    out.seek(0)
                    out.truncate()
                    digest = hashlib.sha256()
                broken = self._copy(file, answer, out, digest.update)
            if not broken:
                return digest.hexdigest()
        raise FetchError(
            f"{file.filename}: only {out.tell()} of {file.size or 'its'} bytes came, in"
            f" {self._tries} tries ({broken}); run it again"
        )

    def _answer(self, file: PublishedFile, start: int) -> requests.Response:
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
        with self._named_errors(file.filename):
            answer = self._session.get(file.url, headers=headers, timeout=_TIMEOUT, stream=True)
            if start and answer.status_code == 416:  # there is no more: begin again
                answer.close()
                del headers["Range"]
                answer = self._session.get(file.url, headers=headers, timeout=_TIMEOUT, stream=True)
            if answer.status_code >= 400:
                answer.close()
                answer.raise_for_status()
        return answer

    def _copy(
        self,
        file: PublishedFile,
        answer: requests.Response,
        out: IO[bytes],
        update: Callable[[bytes], None],
    ) -> str:
        """Copy one answer to its end; return why it broke off, "" if it is complete."""
        import requests

        try:
            for block in answer.iter_content(_BLOCK):
                if self._stopped.is_set():
                    raise FetchError(f"{file.filename}: stopped")
                out.write(block)
                update(block)
                if file.size is not None and out.tell() > file.size:
                    raise FetchError(
                        f"{file.filename}: is larger than the {file.size} bytes that the index"
                        " states; not kept"
                    )
        except requests.RequestException as error:
            return _first_line(error)
        short = file.size is not None and out.tell() < file.size
        return "the connection ended" if short else ""

    def _remote_members(
        self, file: PublishedFile, wanted: Callable[[str], bool]
    ) -> dict[str, str] | None:
        """Return members of a wheel by parts; None if that fails and the whole is needed."""
        import requests
        from remotezip import RemoteZip, RemoteZipError

        headers = {"Accept-Encoding": "identity"}
        try:
            with RemoteZip(
                file.url, session=self._session, timeout=_TIMEOUT, headers=headers
            ) as archive:
                return _of_zip(archive, wanted, file.filename)
        except (RemoteZipError, requests.RequestException, *BAD_ARCHIVE, OSError):
            return None

    @contextmanager
    def _one_of_few(self, *, large: bool) -> Iterator[None]:
        """Let only a few large files lie on disk at once."""
        if not large:
            yield
            return
        with self._few:
            if self._stopped.is_set():
                raise FetchError("stopped")
            yield

    @contextmanager
    def _named_errors(self, what: str) -> Iterator[None]:
        """Turn what requests raises into a FetchError that names the request."""
        import requests

        if self._stopped.is_set():
            raise FetchError(f"{what}: stopped")
        try:
            yield
        except requests.JSONDecodeError as error:
            raise FetchError(f"{what}: answers no JSON ({_first_line(error)})") from None
        except requests.HTTPError as error:
            answer = error.response
            again = f", {self._tries} times" if answer.status_code in _BUSY else ""
            raise FetchError(
                f"{what}: answers {answer.status_code} {answer.reason or ''}".rstrip()
                + again
                + _REMEDIES.get(answer.status_code, "")
            ) from None
        except (requests.RequestException, OSError) as error:
            # OSError: requests raises it where a file of certificates is missing.
            raise FetchError(f"{what}: does not answer ({_first_line(error)})") from None


def read_members(path: Path, wanted: Callable[[str], bool]) -> dict[str, str]:
    """Return the text of the members of a wheel or source distribution whose name is wanted.

    Raises FetchError: an archive that cannot be read, or a member that is too large or not UTF-8.
    """
    try:
        if path.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(path) as archive:
                return _of_zip(archive, wanted, path.name)
        with tarfile.open(path, "r|*") as sdist:
            return _of_tar(sdist, wanted, path.name)
    except (*BAD_ARCHIVE, OSError) as error:
        raise FetchError(
            f"{path.name}: is not an archive that can be read ({_first_line(error)})"
        ) from None


def _of_zip(archive: zipfile.ZipFile, wanted: Callable[[str], bool], where: str) -> dict[str, str]:
    found = {}
    for member in archive.infolist():
        if wanted(member.filename) and not member.is_dir():
            with archive.open(member) as source:
                found[member.filename] = _limited(source, f"{where}: {member.filename}")
    return found


def _of_tar(archive: tarfile.TarFile, wanted: Callable[[str], bool], where: str) -> dict[str, str]:
    found = {}
    for member in archive:
        if member.offset_data + member.size > _UNPACKED:
            raise FetchError(f"{where}: unpacks to more than {_UNPACKED >> 30} GiB; not read")
        if wanted(member.name) and member.isfile():
            source = archive.extractfile(member)
            assert source is not None  # of a regular file there always is one
            with closing(source):
                found[member.name] = _limited(source, f"{where}: {member.name}")
    return found


def _limited(source: IO[bytes], where: str) -> str:
    # The size that the archive has for a member is not trusted.
    content = source.read(_MEMBER + 1)
    if len(content) > _MEMBER:
        raise FetchError(f"{where}: is larger than {_MEMBER >> 20} MiB; not read")
    return _text(content, where)


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise FetchError(f"{where}: is not text in UTF-8; not read") from None


def _web_address(url: str) -> str:
    try:
        addresses.index_address(url)
    except addresses.AddressError as error:
        raise FetchError(str(error)) from None
    return url


def _first_line(error: BaseException) -> str:
    """Return why it failed, in one line, without the layers of libraries around the cause.

    Libraries repeat an address with its login.
    """
    reason: object = error.args[0] if isinstance(error, OSError) and error.args else error
    reason = getattr(reason, "reason", reason)
    if isinstance(reason, Exception) and reason.args and isinstance(reason.args[0], str):
        reason = reason.args[0]
    line = str(reason).strip().partition("\n")[0]
    line = line.partition("object at")[2].partition(">: ")[2] or line or type(error).__name__
    return without_logins(line)
