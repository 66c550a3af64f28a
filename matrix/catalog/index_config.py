"""The user's own package index: its address and certificates, as uv and pip are set up for it."""

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

__all__ = ["IndexAddressError", "certificates", "index_address"]

_ADDRESSES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
# requests itself reads REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE, and puts them first.
_CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE")


class IndexAddressError(MatrixError):
    """A configuration of uv or pip that cannot be read."""


def index_address(environ: Mapping[str, str] = os.environ, here: Path | None = None) -> str | None:
    """The address of the index that the user has set up; None where there is none.

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
    """The file of certificates that uv or pip would trust; None for the library's own."""
    for name in _CERTIFICATES:
        if value := environ.get(name, "").strip():
            return value
    return _of_pip("cert", environ)


def _of_pip(key: str, environ: Mapping[str, str]) -> str | None:
    """What pip's configuration says: the last of its files that names the key."""
    found = None
    for path in _pip_files(environ):
        config = configparser.RawConfigParser()
        try:
            config.read_string(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            said = str(error).partition("\n")[0]
            raise IndexAddressError(f"{path}: cannot be read ({said}); mend it") from None
        found = config.get("global", key, fallback="").strip() or found
    return found


def _pip_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """pip's files, in the order in which it reads them: a later one counts more.

    https://pip.pypa.io/en/stable/topics/configuration/
    """
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    for folder in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep):
        yield Path(folder, "pip", "pip.conf")
    yield Path("/etc/pip.conf")
    if home := environ.get("HOME"):
        yield Path(home, ".pip", "pip.conf")
    yield from (each / "pip" / "pip.conf" for each in _user_folder(environ))
    yield Path(environ.get("VIRTUAL_ENV") or sys.prefix, "pip.conf")
    if named:
        yield Path(named)


def _of_uv(environ: Mapping[str, str], here: Path) -> str | None:
    """What the first uv.toml that names a default index says.

    https://docs.astral.sh/uv/concepts/configuration-files/
    """
    if environ.get("UV_NO_CONFIG"):
        return None
    if named := environ.get("UV_CONFIG_FILE"):
        return _default_index(Path(named))
    project = next((each for each in (here, *here.parents) if (each / "uv.toml").is_file()), here)
    folders = [project, *(each / "uv" for each in _user_folder(environ)), Path("/etc/uv")]
    found = (_default_index(each / "uv.toml") for each in folders)
    return next((each for each in found if each), None)


def _default_index(path: Path) -> str | None:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise IndexAddressError(f"{path}: cannot be read ({error}); mend it") from None
    indexes = data.get("index")
    for each in indexes if isinstance(indexes, list) else []:
        if isinstance(each, dict) and each.get("default") is True and each.get("url"):
            return str(each["url"])
    pip = data.get("pip")
    for table in (data, pip if isinstance(pip, dict) else {}):
        if isinstance(address := table.get("index-url"), str):
            return address
    return None


def _user_folder(environ: Mapping[str, str]) -> Iterator[Path]:
    if folder := environ.get("XDG_CONFIG_HOME"):
        yield Path(folder)
    elif home := environ.get("HOME"):
        yield Path(home, ".config")
