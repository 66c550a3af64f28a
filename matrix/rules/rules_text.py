"""Change rules in the text of their file, and keep every other byte of it.

Pure. A rule that changes keeps its place, its comments, and the keys that are as before. A new rule
follows the last one of its case and platform, or all others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from matrix.errors import MatrixError
from matrix.rules.expectations import Expectations, Rule
from matrix.rules.expectations_file import parse_expectations
from matrix.rules.rule_toml import rule_toml, toml_list, toml_text

_TOKEN = re.compile(
    r"""
    (?P<string>\"{3}(?:[^\\]|\\.)*?\"{3,5} | '{3}.*?'{3,5} | "(?:[^"\\\r\n]|\\.)*" | '[^'\r\n]*')
    | (?P<comment>\#[^\r\n]*)
    | (?P<newline>\r\n|\r|\n)
    | (?P<blank>[ \t]+)
    | (?P<opens>[\[{])
    | (?P<closes>[\]}])
    | (?P<comma>,)
    | (?P<equals>=)
    | (?P<bare>[^\s"'\#\[\]{},=]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_NOTHING = ("blank", "comment", "newline")
_HEADERS = ("[[rule]]", '[["rule"]]', "[['rule']]")
_END = r"(?:\r\n|\n|\r(?!\n))"
_NEWLINE = re.compile(_END)
_COMMENTS = re.compile(rf"(?:[ \t]*\#[^\r\n]*(?:{_END}|\Z))+(?=[ \t]*(?:[\r\n]|\Z))")
"""Comments right below a rule that belong to it, since an empty line follows them."""
_EMPTY_LINE = re.compile(r"[ \t]*(?:[\r\n]|\Z)")
_ENDS_EMPTY = re.compile(rf"(?:\A|{_END})[ \t]*{_END}\Z")


class RulesTextError(MatrixError):
    """A file whose rules cannot be changed in place."""


class _Edit(NamedTuple):
    start: int
    end: int
    text: str


class _Statement(NamedTuple):
    """A header or a key with its value: where its value begins (None for a header), and its end."""

    name: str
    value: int | None
    end: int


@dataclass(frozen=True, kw_only=True)
class _Block:
    """A rule in the text: the ends of the values of its own keys, and where it ends itself."""

    values: dict[str, tuple[int, int]]
    end: int


@dataclass(frozen=True, kw_only=True)
class _Places:
    """The rules that take the place of one, by its id, and the new ones, by the rule before them.

    `last` follow all others.
    """

    instead: dict[str, Rule] = field(default_factory=dict)
    after: dict[str, list[Rule]] = field(default_factory=dict)
    last: tuple[Rule, ...] = ()

    @classmethod
    def of(cls, known: Sequence[Rule], changed: Sequence[Rule]) -> _Places:
        """Find the places of these rules."""
        before = {(rule.case, rule.platform): rule.id for rule in known}
        ids = {rule.id for rule in known}
        after: dict[str, list[Rule]] = {}
        last: dict[tuple[object, object], list[Rule]] = {}
        for rule in changed:
            if rule.id not in ids:
                key = rule.case, rule.platform
                if key in before:
                    after.setdefault(before[key], []).append(rule)
                else:
                    last.setdefault(key, []).append(rule)
        return cls(
            instead={rule.id: rule for rule in changed if rule.id in ids},
            after=after,
            last=tuple(rule for rules in last.values() for rule in rules),
        )

    def order(self, known: Sequence[Rule]) -> tuple[Rule, ...]:
        """Return all rules in the order of the changed file."""
        kept = ((self.instead.get(rule.id, rule), *self.after.get(rule.id, ())) for rule in known)
        return (*(rule for rules in kept for rule in rules), *self.last)


def with_rules(known: Expectations, changed: Sequence[Rule]) -> Expectations:
    """Return the rules with these: one of a known id in the place of that one, and the new ones.

    Raises ExpectationsError where two rules would tie.
    """
    return Expectations(rules=_Places.of(known.rules, changed).order(known.rules), name=known.name)


def text_with_rules(text: str, known: Expectations, changed: Sequence[Rule]) -> str:
    """Return the text of a file of the known rules with these: it is read as `with_rules`.

    Raises ExpectationsError where two rules would tie, and RulesTextError where the text is written
    in a way that this module does not change.
    """
    if not changed:
        return text
    places = _Places.of(known.rules, changed)
    blocks = list(_blocks(text))
    if len(blocks) != len(known.rules):
        raise RulesTextError(
            f"{known.name}: not every rule begins with a line [[rule]]; write each of them so"
        )
    edits: list[_Edit] = []
    new: dict[int, list[Rule]] = {}
    for rule, block in zip(known.rules, blocks, strict=True):
        if (wider := places.instead.get(rule.id)) is not None:
            edits += _changes(text, block, rule, wider)
        if rule.id in places.after:
            new[block.end] = places.after[rule.id]
    if places.last:
        new[len(text)] = [*new.get(len(text), ()), *places.last]
    edits += [_addition(text, place, rules) for place, rules in new.items()]
    text = _edited(text, edits)
    if parse_expectations(_NEWLINE.sub("\n", text), known.name) != with_rules(known, changed):
        raise RulesTextError(
            f"{known.name}: a rule is written in a way that cannot be changed in place; write it as"
            " `matrix calibrate` prints rules"
        )
    return text


def _edited(text: str, edits: Sequence[_Edit]) -> str:
    """Return the text after the edits; those at one place follow each other."""
    parts, place = [], 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        parts += [text[place : edit.start], edit.text]
        place = edit.end
    return "".join([*parts, text[place:]])


def _statements(text: str) -> Iterator[_Statement]:
    """Yield the headers and the keys of a text that is TOML, in order."""
    depth, start, equals, value, end = 0, -1, -1, -1, 0
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "newline" and depth == 0 and start >= 0:
            yield _statement(text, (start, equals, value, end))
            start = equals = value = -1
        if kind in _NOTHING:
            continue
        if start < 0:
            start = token.start()
        elif equals >= 0 and value < 0:
            value = token.start()
        if kind == "equals" and depth == 0 and equals < 0:
            equals = token.start()
        depth += (kind == "opens") - (kind == "closes")
        end = token.end()
    if start >= 0:
        yield _statement(text, (start, equals, value, end))


def _statement(text: str, where: tuple[int, int, int, int]) -> _Statement:
    start, equals, value, end = where
    if equals < 0:
        return _Statement("".join(text[start:end].split()), None, end)
    return _Statement(text[start:equals].strip().strip("\"'"), value, end)


def _blocks(text: str) -> Iterator[_Block]:
    """Yield each rule of the text. The tables of a rule that have a header belong to it."""
    block: list[_Statement] | None = None
    for statement in _statements(text):
        if statement.value is None and statement.name in _HEADERS:
            if block is not None:
                yield _block(text, block)
            block = []
        if block is not None:
            block.append(statement)
    if block:
        yield _block(text, block)


def _block(text: str, statements: Sequence[_Statement]) -> _Block:
    own = takewhile(lambda statement: statement.value is not None, statements[1:])
    line = _NEWLINE.search(text, statements[-1].end)
    end = len(text) if line is None else line.end()
    comments = _COMMENTS.match(text, end)
    return _Block(
        values={key: (value, stop) for key, value, stop in own if value is not None},
        end=end if comments is None else comments.end(),
    )


def _changes(text: str, block: _Block, rule: Rule, wider: Rule) -> Iterator[_Edit]:
    """Yield the edits that make a rule the wider one: its releases and its evidence."""
    for key, before, after in (
        ("torch", rule.torch.text, wider.torch.text),
        ("vllm", rule.vllm.text, wider.vllm.text),
    ):
        if before != after and after is not None and key in block.values:
            yield _Edit(*block.values[key], toml_text(after))
    if rule.evidence != wider.evidence and "evidence" in block.values:
        start, end = block.values["evidence"]
        kept = len(rule.evidence)
        if _NEWLINE.search(text, start, end) and wider.evidence[:kept] == rule.evidence:
            yield from _items(text, (start, end), wider.evidence[kept:])
        else:
            yield _Edit(start, end, _in_lines_of(text, toml_list(wider.evidence)))


def _items(text: str, where: tuple[int, int], more: Sequence[str]) -> Iterator[_Edit]:
    """Yield the edits that add items to a list of many lines, below its last item."""
    tokens = list(_TOKEN.finditer(text, *where))
    place = max(number for number, token in enumerate(tokens) if token.lastgroup == "string")
    last, rest = tokens[place], tokens[place + 1 :]
    following = next(token for token in rest if token.lastgroup not in _NOTHING)
    if following.lastgroup == "comma":
        rest = rest[rest.index(following) + 1 :]
    else:
        yield _Edit(last.end(), last.end(), ",")
    line = takewhile(lambda token: token.lastgroup in ("blank", "comment"), rest)
    below = rest[len(list(line))]
    found = re.search(r"[\r\n]([ \t]+)\Z", text[where[0] : last.start()])
    indent = found[1] if found else "    "
    items = "".join(f"\n{indent}{toml_text(item)}," for item in more)
    end = "" if below.lastgroup == "newline" else "\n"
    yield _Edit(below.start(), below.start(), _in_lines_of(text, items + end))


def _addition(text: str, place: int, rules: Sequence[Rule]) -> _Edit:
    """Return the edit that adds rules there, with an empty line between them and what is around."""
    before, after = text[:place], text[place:]
    if not before.strip() or _ENDS_EMPTY.search(before):
        begin = ""
    else:
        begin = "\n" if before.endswith(("\n", "\r")) else "\n\n"
    end = "" if _EMPTY_LINE.match(after) else "\n"
    added = begin + "\n".join(map(rule_toml, rules)) + end
    return _Edit(place, place, _in_lines_of(text, added))


def _in_lines_of(text: str, added: str) -> str:
    """Return what is added with the line ends of the text."""
    found = _NEWLINE.search(text)
    return added if found is None else added.replace("\n", found[0])
