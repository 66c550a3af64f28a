"""Changes as an Atom feed (RFC 4287): an entry for each new or changed verdict."""

from __future__ import annotations

import hashlib
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from itertools import islice
from urllib.parse import urlencode

from matrix._util.text import clean, clip
from matrix.record.model import Record
from matrix.report import marks, stock
from matrix.report.reasons import reason_words
from matrix.verdict.changes import VerdictChange
from matrix.verdict.grid import ran_cell
from matrix.verdict.judge import CellVerdict
from matrix.verdict.states import Verdict

FEED_FILE = "changes.atom"
_ATOM = "http://www.w3.org/2005/Atom"
_NAMESPACE = uuid.UUID("6d1f5b0e-6a0c-5c6f-9a3e-2f7d1c9b8e54")
"""The names of this feed's entries: the same change has the same id in every feed."""
_MOST = 100
"""How many entries a feed has; the newest."""
_NOTHING_YET = "1970-01-01T00:00:00Z"
_TITLE, _REASON, _NAME = 200, 500, 60


def render(changes: Iterable[VerdictChange]) -> str:
    """Return the newest changes as a feed. The same records give the same text."""
    found = {_id_of(change.record): change for change in reversed(list(changes))}
    shown = list(islice(reversed(found.values()), _MOST))
    feed = ET.Element("feed", xmlns=_ATOM)
    _text(feed, "title", "torch × vLLM: what changed")
    _text(feed, "id", f"urn:uuid:{uuid.uuid5(_NAMESPACE, 'feed')}")
    _text(feed, "updated", shown[0].record.started if shown else _NOTHING_YET)
    _text(ET.SubElement(feed, "author"), "name", "torch-vllm-matrix")
    ET.SubElement(feed, "link", rel="self", href=FEED_FILE, type="application/atom+xml")
    ET.SubElement(feed, "link", rel="alternate", href="index.html", type="text/html")
    for change in shown:
        _entry(feed, change)
    ET.indent(feed)
    made: bytes = ET.tostring(feed, encoding="utf-8", xml_declaration=True)
    return made.decode() + "\n"


def _entry(feed: ET.Element, change: VerdictChange) -> None:
    record, verdict = change.record, change.verdict
    entry = ET.SubElement(feed, "entry")
    _text(entry, "title", _title(change))
    _text(entry, "id", _id_of(record))
    _text(entry, "updated", record.started)
    ET.SubElement(entry, "link", rel="alternate", href=_address(record), type="text/html")
    ET.SubElement(entry, "category", term=str(verdict.verdict))
    _text(entry, "summary", _summary(record, verdict))


def _id_of(record: Record) -> str:
    """Return the id of a record's entry, which is the same in every feed."""
    ran = [record.version(key) for key in ("torch", "vllm")]
    named = "\n".join(map(str, (record.platform, record.cell, record.started, *ran)))
    digest = hashlib.sha256(named.encode("utf-8", "replace")).hexdigest()
    return f"urn:uuid:{uuid.uuid5(_NAMESPACE, digest)}"


def _title(change: VerdictChange) -> str:
    """Return what changed: `torch 2.11.0 × vLLM 0.20.2 on cuda: drift; before: compatible`."""
    record, before = change.record, change.before
    standing = _standing(change.verdict)
    was = "" if before is None else f"; before: {_standing(before)}"
    return clip(f"{_pair(record)} on {record.platform}: {standing}{was}", _TITLE)


def _pair(record: Record) -> str:
    named = [(label, record.version(key)) for label, key in (("torch", "torch"), ("vLLM", "vllm"))]
    if any(version is None for _, version in named):
        return clip(clean(record.cell), _NAME)
    return " × ".join(f"{label} {clip(clean(str(version)), _NAME)}" for label, version in named)


def _standing(verdict: CellVerdict) -> str:
    apart = [marks.recompile(len(verdict.recompiling))]
    apart += [stock.NOT_STOCK if verdict.not_stock else ""]
    fails = verdict.verdict == Verdict.INCOMPATIBLE and verdict.rung
    standing = f"{verdict.verdict} ({verdict.rung})" if fails else str(verdict.verdict)
    return ", ".join(filter(None, [standing, *apart]))


def _summary(record: Record, verdict: CellVerdict) -> str:
    reason = clip(clean(reason_words(verdict.reason)), _REASON)
    ran = f"Python {clip(clean(str(record.provenance.get('python') or 'not known')), _NAME)}"
    again = marks.recompile_for(verdict.issues)
    packages = stock.mark(verdict.not_stock)
    return "; ".join(filter(None, [reason, clean(again), clean(packages), ran]))


def _address(record: Record) -> str:
    """Return where the page shows the cell, from the feed's own folder."""
    cell = ran_cell(record)
    at = record.cell if cell is None else f"{cell.torch},{cell.vllm},{cell.python}"
    return f"index.html#{urlencode({'platform': record.platform, 'at': at}, safe=',')}"


def _text(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, name).text = text
