"""Addresses of indexes, files and repositories, without what is secret in them. Pure.

`without_secrets` is for an address that is kept, `without_logins` for a text that is printed.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from matrix.errors import MatrixError

_LOGIN = re.compile(
    r"(?<=://)[^\s/]*@|(?<![\w.%+-])[\w.%+-]+:[^\s/@]+@(?=\w)"
    # A password with a slash that nobody escaped; a port is not one.
    r"|(?<=://)[^\s/@:\[]+:(?!\d{1,5}(?![^\s/?#]))[^\s@]{1,200}@"
)


class AddressError(MatrixError):
    """A text that is not an address of the kind that is needed. It contains no credential."""


def index_address(text: str) -> str:
    """Return the address of an index without user, password, query and fragment.

    >>> index_address("https://me:secret@mirror.example/whl/test/cu130/")
    'https://mirror.example/whl/test/cu130/'

    Raises AddressError if it is not an http(s) address.
    """
    clean = without_secrets(text)
    parts = _split(clean)
    if parts is None or parts[0] not in ("http", "https") or not parts[1]:
        raise AddressError(f"{_shown(clean)!r} is not an http(s) address; write it as https://...")
    return clean


def file_address(text: str) -> str:
    """Return the address of a file or repository without user, password, query and fragment.

    A path stays as it is. Raises AddressError if it cannot be read as an address.
    """
    if "://" not in text:
        return text
    clean = without_secrets(text)
    if _split(clean) is None:
        raise AddressError(f"{_shown(clean)!r} is not an address")
    return clean


def without_secrets(text: str) -> str:
    """Return an address without user, password, query and fragment, which may be secret.

    A path stays as it is.
    """
    if "://" not in text:
        return text
    parts = _split(text)
    if parts is None:
        # It cannot be taken apart, so nothing of it is known not to be secret.
        return text.partition("://")[0][:20]
    scheme, host, path = parts
    return urlunsplit((scheme, host, path, "", ""))


def without_logins(text: str) -> str:
    """Return the text without the user and password of each address in it, also of a mistyped one.

    The rest of each stays, since it says what a message is about.

    >>> without_logins("https://me:secret@example.org/x: does not answer (see me:secret@host/y)")
    'https://example.org/x: does not answer (see host/y)'
    """
    return _LOGIN.sub("", text)


def as_user(url: str, index: str) -> str:
    """Return a file's address, with the index's user and password where the host is the same."""
    address, home = urlsplit(url), urlsplit(index)
    user, _, host = home.netloc.rpartition("@")
    if not user or address.netloc != host or address.scheme != home.scheme:
        return url
    return urlunsplit(address._replace(netloc=home.netloc))


def compare_address(repository: str, old: str, new: str) -> str | None:
    """Return the page on which a public host of repositories shows what lies between two commits.

    >>> compare_address("https://github.com/vllm-project/vllm.git", "1a2b", "3c4d")
    'https://github.com/vllm-project/vllm/compare/1a2b...3c4d'

    None for a repository that is on no such host.
    """
    found = re.fullmatch(
        r"(?:https://|ssh://|git@)(?P<host>github\.com|gitlab\.com)[:/]"
        r"(?P<path>[\w.-]+(?:/[\w.-]+)+)/?",
        without_secrets(repository) if "://" in repository else repository,
    )
    if found is None:
        return None
    between = "/-" if found["host"] == "gitlab.com" else ""
    path = found["path"].removesuffix(".git")
    return f"https://{found['host']}/{path}{between}/compare/{old}...{new}"


def _split(text: str) -> tuple[str, str, str] | None:
    try:
        found = urlsplit(text)
        _ = found.port
    except ValueError:
        return None
    return found.scheme, found.netloc.rpartition("@")[2], found.path


def _shown(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
