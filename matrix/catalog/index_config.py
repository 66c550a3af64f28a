"""The user's own package index: address and certificates by uv's and pip's configuration."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from matrix.errors import MatrixError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_ADDRESSES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
# requests itself reads REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE, and puts them first.
_CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE")


class IndexAddressError(MatrixError):
    """A configuration of uv or pip cannot be read."""


def index_address(environ: Mapping[str, str] = os.environ, here: Path | None = None) -> str | None:
    """Return the address of the index that the user has configured, None without one.

    The first one counts of UV_DEFAULT_INDEX, UV_INDEX_URL, PIP_INDEX_URL, pip's configuration and
    uv.toml (`here` is the folder where uv would look first, by default the current one). Raises
    IndexAddressError, which names the file, where a configuration cannot be read.
    """
    for name in _ADDRESSES:
        if value := environ.get(name, "").strip():
            # uv lets an index have a name: UV_DEFAULT_INDEX=mine=https://...
            label, equals, address = value.partition("=")
            return address if equals and "/" not in label else value
    return _of_pip("index-url", environ) or _of_uv(environ, here or Path.cwd())


def certificates(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the file of certificates that uv or pip would trust, None for the library's own."""
    for name in _CERTIFICATES:
        if value := environ.get(name, "").strip():
            return value
    return _of_pip("cert", environ)


def _of_pip(key: str, environ: Mapping[str, str]) -> str | None:
    """Return what pip's configuration says: the last of its files that has the key."""
    found = None
    for path in _pip_files(environ):
        config = configparser.RawConfigParser()
        try:
            config.read_string(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            reason = str(error).partition("\n")[0]
            raise IndexAddressError(f"{path}: cannot be read ({reason}); correct it") from None
        found = config.get("global", key, fallback="").strip() or found
    return found


def _pip_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield pip's files, in the order in which it reads them: a later one overrides.

    https://pip.pypa.io/en/stable/topics/configuration/
    """
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    for name in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep):
        yield Path(name, "pip", "pip.conf")
    yield Path("/etc/pip.conf")
    if home := environ.get("HOME"):
        yield Path(home, ".pip", "pip.conf")
    yield from (folder / "pip" / "pip.conf" for folder in _user_folders(environ))
    yield Path(environ.get("VIRTUAL_ENV") or sys.prefix, "pip.conf")
    if named:
        yield Path(named)


def _of_uv(environ: Mapping[str, str], here: Path) -> str | None:
    """Return the default index of the first uv.toml that has one.

    https://docs.astral.sh/uv/concepts/configuration-files/
    """
    if environ.get("UV_NO_CONFIG"):
        return None
    if named := environ.get("UV_CONFIG_FILE"):
        return _default_index(Path(named))
    project = next((up for up in (here, *here.parents) if (up / "uv.toml").is_file()), here)
    folders = [project, *(folder / "uv" for folder in _user_folders(environ)), Path("/etc/uv")]
    found = (_default_index(folder / "uv.toml") for folder in folders)
    return next((address for address in found if address), None)


def _default_index(path: Path) -> str | None:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, RecursionError, ValueError) as error:
        raise IndexAddressError(f"{path}: cannot be read ({error}); correct it") from None
    indexes = data.get("index")
    for row in indexes if isinstance(indexes, list) else []:
        if isinstance(row, dict) and row.get("default") is True and row.get("url"):
            return str(row["url"])
    pip = data.get("pip")
    for table in (data, pip if isinstance(pip, dict) else {}):
        if isinstance(address := table.get("index-url"), str):
            return address
    return None


def _user_folders(environ: Mapping[str, str]) -> Iterator[Path]:
    if folder := environ.get("XDG_CONFIG_HOME"):
        yield Path(folder)
    elif home := environ.get("HOME"):
        yield Path(home, ".config")
