"""Take out of a text what names a user, a host, an address or a folder of this machine.

What is secret goes too: the login of an address, the values of environment variables that have the
name of a secret, and what has the form of a well-known token.
"""

import contextlib
import os
import re
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

# Common names of users and hosts, which identify nobody and which failures are full of.
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "address app aot autograd build builder cache cpu cuda docker dynamo gpu home host "
        "inductor localhost main matrix model models nobody node path python ray root runner "
        "server startup test tests this tmp torch triton ubuntu user users vllm worker workspace",
    )
)
# A path starts where no word or path goes on, or after a compiler's -I, -L and the like.
_START = r"(?:(?<![\w.~>/-])|(?<=[\s'\"=,]-[A-Za-z])|(?<=\A-[A-Za-z]))"
_PART = r"[^/\s'\"`:,;()<>|\[\]{}]"
_HOME = re.compile(rf"{_START}/(?:home|Users)/{_PART}+")
_PATH = re.compile(
    r"(?<!\w)(?P<quote>['\"])(?P<quoted>(?:~|<tmp>)?/(?:(?! /)[^'\"\n])*)(?P=quote)"
    rf"|{_START}(?P<bare>(?:~|<tmp>)?/+{_PART}(?:{_PART}|/)*)"
)
_PACKAGES = re.compile(r".*/((?:site|dist)-packages(?:/|$))")
_KERNELS = ("/dev/", "/proc/", "/sys/")  # the same on every machine
_USERS_FOLDER = re.compile(r"(?<=/)(torchinductor_|pytest-of-)[\w.@+-]+")
_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_ADDRESS = re.compile(
    # Without a port or a scheme it could be a version, such as 12.8.4.1.
    rf"(?<![\w.])(?:{_OCTET}\.){{3}}{_OCTET}:\d+\b"
    rf"|(?<=[/@])(?:{_OCTET}\.){{3}}{_OCTET}(?![\w.])"
    rf"|(?<![\w.])(?:192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.{_OCTET}){{2}}(?!\.?\w)"
    r"|\[[0-9a-fA-F]*:[0-9a-fA-F:.]*(?:%\w+)?\]:\d+\b"
)
_LOGIN = re.compile(
    r"(?<=://)[^\s/@'\"<>]*(?:@[^\s/@'\"<>]*)*@"
    # A password with a slash that nobody escaped; a port is not one.
    r"|(?<=://)[^\s/@:'\"<>\[]+:(?!\d{1,5}(?![^\s/?#'\"<>]))[^\s@'\"<>]{1,200}@"
)
_KEYS = r"(?:token|key|secret|password|passwd|signature|sig|credential)"
_SECRETS = (
    # The query of an address, such as that of a presigned one, and headers.
    re.compile(rf"(?P<before>[?&][\w.-]*{_KEYS}=)[^\s&#'\"<>]+", re.IGNORECASE),
    re.compile(
        r"(?P<before>\b(?:authorization['\"]?: *['\"]?(?:basic|bearer|token) "
        r"|(?:x-api-key|(?:private|job)-token)['\"]?: *['\"]?))[^\s'\"<>]+",
        re.IGNORECASE,
    ),
    # Tokens of Hugging Face, GitHub, GitLab, AWS, OpenAI, Slack and the package index.
    re.compile(
        r"(?P<before>\b)(?:hf_[A-Za-z0-9]{20,}|gh[opsur]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
        r"|glpat-[\w-]{20,}|A[KS]IA[0-9A-Z]{16}|sk-[A-Za-z0-9_-]{20,}|xox[abp]-[\w-]{10,}"
        r"|pypi-Ag[\w-]{20,})"
    ),
)
_SECRET_NAMES = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|API_?KEY|ACCESS_KEY|SECRET_KEY|CREDENTIALS?)"
    r"(?:$|_)",
    re.IGNORECASE,
)
_SHORTEST = 6  # characters of a value that could be secret
_TOKEN = 16  # characters from which on a login without a password is one


def scrub(text: str, root: Path, environ: Mapping[str, str] = os.environ) -> str:
    """Return the text without folders of this machine, addresses, and names of user and host.

    A path keeps what is below the checkout, site-packages, the home folder and the temporary
    folder; any other path keeps its last part. Scrubbing again changes nothing.

    >>> scrub("/repo/tests/a.py and /home/ann/x", Path("/repo"), {})
    'tests/a.py and ~/x'
    >>> scrub("https://me:pass@host/simple?token=abc", Path("/repo"), {})
    'https://host/simple?token=<secret>'
    >>> scrub("/opt/py/site-packages/vllm/a.py, /data/ann/b.py", Path("/repo"), {})
    'site-packages/vllm/a.py, <path>/b.py'
    >>> scrub("/tmp/torchinductor_ann/fx at tcp://10.12.3.4:45123", Path("/repo"), {})
    '<tmp>/torchinductor_<user>/fx at tcp://<address>'
    """
    text = _without_secrets(text, environ)
    folders, names = _folders(root, environ), _names(environ)
    # What is left can match again, though almost never does.
    for _ in range(8):
        before = text
        for folder, instead in folders:
            text = folder.sub(instead, text)
        text = _PATH.sub(_short, _HOME.sub("~", text))
        text = _ADDRESS.sub("<address>", _USERS_FOLDER.sub(r"\1<user>", text))
        for name, instead in names:
            text = name.sub(instead, text)
        if text == before:
            break
    return text


def _without_secrets(text: str, environ: Mapping[str, str]) -> str:
    values = [
        value
        for name, value in environ.items()
        if _SECRET_NAMES.search(name) and not value.startswith("/")
    ]
    # The password of an address, such as that of an index, may stand alone in a text too.
    for value in environ.values():
        for login in _LOGIN.findall(value) if "@" in value else ():
            user, _, password = login[:-1].partition(":")
            values.append(password if password or len(user) < _TOKEN else user)
    text = _LOGIN.sub("", text)
    for value in sorted(set(values), key=len, reverse=True):
        if len(value) >= _SHORTEST:
            text = text.replace(value, "<secret>")
    for secret in _SECRETS:
        text = secret.sub(r"\g<before><secret>", text)
    return text


def _folders(root: Path, environ: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    named = dict.fromkeys(("/tmp", "/var/tmp"), "<tmp>/")  # noqa: S108
    with contextlib.suppress(FileNotFoundError):  # no folder can be written
        named[tempfile.gettempdir()] = "<tmp>/"
    named |= {environ.get("TMPDIR", ""): "<tmp>/", environ.get("HOME", ""): "~/", str(root): ""}
    folders = {folder.rstrip("/"): instead for folder, instead in named.items()}
    return [
        (re.compile(rf"{_START}{re.escape(folder)}(?![\w.-])/*"), folders[folder])
        for folder in sorted(folders, key=len, reverse=True)  # the innermost first
        if folder.startswith("/")
    ]


def _names(environ: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    users = {environ.get(name, "") for name in ("USER", "LOGNAME", "LNAME", "USERNAME")}
    users.add(_account())
    host = socket.gethostname()
    found = []
    for user in sorted(users):
        if len(user) > 1 and user.lower() not in _COMMON:
            name = re.escape(user)
            # A whole part of a path, the end of a name such as vllm_ann, or ann@host.
            pattern = rf"(?:(?<=[/~_])|(?<=-of-)|(?<![\w.<-])(?={name}[/@])){name}(?![\w-])"
            found.append((re.compile(pattern), "<user>"))
    short = host.partition(".")[0]
    if len(host) > 3 and short.lower() not in _COMMON and re.search(r"[A-Za-z]", short):
        # With its domain, whichever that is here.
        pattern = rf"(?<![A-Za-z0-9<]){re.escape(short)}(?![\w-])(?:\.\w[\w-]*)*"
        found.append((re.compile(pattern, re.IGNORECASE), "this-host"))
    return found


def _account() -> str:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        return ""


def _short(found: re.Match[str]) -> str:
    """Return the path without what belongs to this machine; a URL stays."""
    quote = found["quote"] or ""
    whole = found["quoted"] or found["bare"]
    if re.match("//(?!/)", whole) and found.string.endswith(":", 0, found.start()):
        return found[0]
    path = re.sub("/+", "/", whole)
    if packages := _PACKAGES.match(path):
        return f"{quote}{path[packages.start(1) :]}{quote}"
    parts = path.rstrip("/").split("/")
    if path[0] != "/" or path.startswith(_KERNELS) or len(parts) < 3:
        return found[0]
    last = "<user>" if parts[-2].lower() in ("home", "homes", "users") else parts[-1]
    return f"{quote}<path>/{last}{quote}"
