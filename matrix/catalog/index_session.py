"""The connections of a client of a package index: what is tried again, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Collection

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from matrix.catalog.index_config import certificates

_LARGEST = 64 << 20  # bytes of a page, or of metadata; files are fetched as streams


class HugeAnswerError(requests.RequestException):
    """An answer that has more bytes than any page of an index."""


def new_session(
    agent: str, tries: int, backoff: float, *, busy: Collection[int], patience: int
) -> requests.Session:
    """Return a session that says it is `agent` and asks up to `tries` times.

    That is where a server cannot be reached or its status is one of `busy`, after `backoff`
    seconds, then twice as many, and so on, or after the answer's Retry-After, up to `patience`
    seconds. A server that does not answer in time is asked twice.
    """
    session = requests.Session()
    session.headers["User-Agent"] = agent
    session.verify = certificates() or True
    session.hooks["response"] += [_refuse_lost, _refuse_huge]
    # The parser of pages logs which bytes it could not read.
    logging.getLogger("bs4").addHandler(logging.NullHandler())
    retry = Retry(
        total=tries - 1,
        read=min(tries - 1, 1),  # a server that hangs takes a minute each time
        backoff_factor=backoff,
        status_forcelist=busy,
        raise_on_status=False,
        retry_after_max=patience,
    )
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry, pool_maxsize=16))
    return session


def _refuse_lost(answer: requests.Response, *_: object, **__: object) -> None:
    """Refuse a redirect that leads nowhere, which requests takes for an answer with content."""
    if 300 <= answer.status_code < 400 and not answer.is_redirect:
        raise requests.HTTPError(response=answer)


def _refuse_huge(answer: requests.Response, *_: object, stream: bool = False, **__: object) -> None:
    """Read what requests would keep in memory, however much it is, and refuse it beyond a limit."""
    if stream and not answer.is_redirect:
        return
    content = bytearray()
    for block in answer.iter_content(1 << 16):
        content += block
        if len(content) > _LARGEST:
            answer.close()
            raise HugeAnswerError(f"it sends more than {_LARGEST >> 20} MiB", response=answer)
    answer._content = bytes(content)  # noqa: SLF001  # as requests does when it reads all itself
