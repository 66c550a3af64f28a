"""`--json` of recommend, upgrade, attribute, linkage and a list of records obeys its schema."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from command import matrix
from matrix.advice.kinds import EvidenceKind
from matrix.advice.left_behind import LeftKind
from matrix.advice.reasons import MisfitCode
from matrix.advice.upgrade import KnownPackages, PairState, What
from matrix.checks.facts import LinkCode
from matrix.checks.gpu_code.fits import CodeFit
from matrix.checks.linkage.link import Abi
from matrix.record.model import Platform, Rung
from matrix.record.start_seconds import Unlike
from matrix.verdict.states import Verdict
from schemas import SCHEMAS, valid, validator

ROOT = Path(__file__).parents[2]
PUBLISHED = (
    "cpu/py311-torch212-vllm020.json",  # off-pin
    "cpu/py312-torch211-vllm020.json",
    "cuda/py312-torch210-vllm019.json",
    "cuda/py312-torch211-vllm020.json",
    "cuda/py312-torch211-vllm028.json",  # a case fails
)
COMMANDS = {
    "recommend": ("recommend", "--vllm", "<0.21"),
    "upgrade": ("upgrade", "--from", "0.19.1", "--to", "0.20.2"),
    "attribute": ("attribute", "--all"),
    "linkage": ("linkage", "--vllm", "0.20.2", "--torch", "2.9.1"),
    "results_list": ("results", "list"),
}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a few of the published records."""
    here = tmp_path_factory.mktemp("published")
    for name in PUBLISHED:
        (here / "results" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "results" / name, here / "results" / name)
    return here


def json_of(here: Path, name: str, *options: str, status: int = 0) -> Any:
    """Return what a command prints for programs."""
    ended = matrix(here, *COMMANDS[name], *options, "--json")
    assert ended.returncode == status and ended.stdout.isascii(), ended.stderr
    return valid(name, ended.stdout)


def text_of(here: Path, name: str, *options: str) -> str:
    """Return what a command prints for people, on lines as long as they need to be."""
    return matrix(here, *COMMANDS[name], *options, COLUMNS="9999").stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_schema_refuses_other_keys(here: Path, name: str) -> None:
    schema = validator(name)
    schema.check_schema(schema.schema)
    content = json_of(here, name, status=1 if name == "linkage" else 0)
    of_list = name == "results_list"
    whole = content[0] if of_list else content

    def is_valid(changed: dict[str, Any]) -> bool:
        return schema.is_valid([changed] if of_list else changed)

    assert is_valid(whole) and not is_valid({**whole, "new": 1})
    for key in whole:
        assert not is_valid({other: whole[other] for other in whole.keys() - {key}})


def test_a_list_has_the_records_of_the_text(here: Path) -> None:
    found = json_of(here, "results_list")
    *rows, count = text_of(here, "results_list").splitlines()[1:]
    assert count == f"{len(PUBLISHED)} records" and len(rows) == len(found) == len(PUBLISHED)
    for record, row in zip(found, rows, strict=True):
        cells = re.split(r" {2,}", row)
        assert cells[:3] == [record["started"], record["cell"], record["platform"]]
        assert cells[3].startswith(record["verdict"]) and cells[-1] == record["paths"][0]
        assert cells[4] == f"{record['passed']}/{record['cases'] - record['not_applicable']}"
    assert json_of(here, "results_list", "--cell", "py39-*") == []


def test_an_attribution_has_the_form_of_the_table(here: Path) -> None:
    found = json_of(here, "attribute")
    assert found["attributions"]
    text = text_of(here, "attribute")
    for attribution in found["attributions"]:
        assert f"{attribution['cell']} on {attribution['platform']}" in text
        assert attribution["evidence"] in text


def test_a_pair_that_does_not_link_has_the_reason_of_the_text(here: Path) -> None:
    (pair,) = json_of(here, "linkage", status=1)["pairs"]
    text = text_of(here, "linkage")
    assert pair["ok"] is False and pair["because"]["code"] == LinkCode.NEEDS
    assert text.startswith(f"vLLM {pair['vllm']} with torch {pair['torch']} on Python")
    for extension in pair["extensions"]:
        assert extension["path"].rpartition("/")[2] in text
        assert extension["ok"] == (extension["because"] is None)
    of_name = ("linkage", "--vllm", "0.20.2", "--torch", "2.11.0+cpu", "--json")
    (unread,) = valid("linkage", matrix(here, *of_name).stdout)["pairs"]
    assert unread["builds"]["torch"]["wheel"] == "" and not unread["ok"]


@pytest.mark.parametrize(
    "options",
    [
        ("--gpu", "h200", "--driver", "580", "--model", "kimi_k2.5"),
        ("--gpu", "b200", "--torch", "2.12"),
        ("--gpu", "gb200", "--machine", "aarch64"),
        ("--gpu", "v100", "--driver", "535"),
        ("--driver", "520"),
        ("--evidence", "measured", "--glibc", "2.28"),
    ],
)
def test_a_recommendation_has_the_pair_of_the_text(here: Path, options: tuple[str, ...]) -> None:
    ended = matrix(here, *COMMANDS["recommend"], *options, "--json")
    found, text = valid("recommend", ended.stdout), text_of(here, "recommend", *options)
    choice = found["choice"]
    assert ended.returncode == (choice is None)
    if choice is None:
        assert text.startswith("no pair fits: ") and found["not_newer"]
    else:
        pair = f"vLLM {choice['vllm']} with torch {choice['torch']} on Python {choice['python']}"
        assert text.startswith(pair) and choice["evidence"]["text"] in text


@pytest.mark.parametrize(
    "versions", [("0.19.1", "0.20.2"), ("0.20.2", "0.14.0"), ("0.9.2", "0.28.0")]
)
def test_an_upgrade_has_the_changes_of_the_text(here: Path, versions: tuple[str, str]) -> None:
    options = ("upgrade", "--from", versions[0], "--to", versions[1])
    found = valid("upgrade", matrix(here, *options, "--json").stdout)
    assert (found["from"]["vllm"], found["to"]["vllm"]) == versions
    text = " ".join(matrix(here, *options, COLUMNS="9999").stdout.split())
    assert found["text"] in text
    for change in found["changes"]:
        if change["what"] in ("torch", "driver") and change["differs"] and change["from"]:
            assert f"{change['from']} {change['to'] or 'unknown'}" in text


CODES: list[tuple[str, tuple[str, ...], Iterable[str | None]]] = [
    ("recommend", ("properties", "not_newer", "items", "properties", "code"), MisfitCode),
    ("recommend", ("$defs", "kind"), EvidenceKind),
    ("recommend", ("$defs", "rung"), Rung),
    (
        "recommend",
        ("$defs", "run", "properties", "cases", "items", "properties", "verdict"),
        Verdict,
    ),
    ("recommend", ("$defs", "wheel", "properties", "fits_gpu"), (*CodeFit, None)),
    ("upgrade", ("properties", "known"), PairState),
    ("upgrade", ("properties", "seconds_differ_by", "items"), Unlike),
    (
        "upgrade",
        ("properties", "changes", "items", "properties", "what"),
        [what.name.lower() for what in What],
    ),
    (
        "upgrade",
        ("properties", "left_behind", "items", "properties", "kind"),
        [kind.name.lower() for kind in LeftKind],
    ),
    ("upgrade", ("$defs", "side", "properties", "packages_known"), KnownPackages),
    ("linkage", ("$defs", "because", "properties", "code"), LinkCode),
    ("linkage", ("$defs", "extension", "properties", "abi"), Abi),
    ("results_list", ("$defs", "listed", "properties", "platform"), Platform),
]


@pytest.mark.parametrize(("name", "where", "codes"), CODES)
def test_a_schema_has_all_codes(
    name: str, where: tuple[str, ...], codes: Iterable[str | None]
) -> None:
    part = SCHEMAS[f"{name}.schema.json"]
    for key in where:
        part = part[key]
    assert sorted(part["enum"], key=json.dumps) == sorted(codes, key=json.dumps)
