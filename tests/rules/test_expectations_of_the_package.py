"""The expectations of the package: they predict the records, and their evidence bears them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from made import provenance
from matrix._util.versions import VersionRange
from matrix.record.model import Case, Outcome, Platform, Record, Start, StartKind
from matrix.record.reader import read
from matrix.record.writer import write
from matrix.report.check import fault_lines
from matrix.rules.expectations import Expectations, Rule, Situation
from matrix.rules.expectations_file import load_expectations
from matrix.rules.founded import unfounded
from matrix.verdict.judge import judge
from rules import HIT, LOADED, MEGA, MISS, SAVED, TOTAL, situation, values

ROOT = Path(__file__).parents[2]


SHIPPED = load_expectations()


def test_shipped_evidence_is_a_record_or_an_upstream_link() -> None:
    upstream = re.compile(
        r"https://github\.com/(vllm-project/vllm|pytorch/pytorch)/"
        r"((pull|issues)/\d+|blob/v\d+\.\d+\.\d+/tests/[\w/]+\.py)"
    )
    # A run's own records lie in records/, which git ignores: another checkout has none of them.
    record = re.compile(r"results/(cpu|cuda)/py\d+-torch\d+-vllm\d+(\.\w+)?\.json")
    for rule in SHIPPED.rules:
        for item in rule.evidence:
            assert upstream.fullmatch(item) or record.fullmatch(item), rule.id


def test_the_loaded_counter_is_expected_only_where_vllm_has_it() -> None:
    for rule in SHIPPED.rules:
        if LOADED in rule.counters:
            assert rule.vllm.implies(VersionRange(">=0.17")), rule.id


@pytest.mark.parametrize(
    ("torch", "mega", "total"),
    [
        ("2.9.1", True, 30),
        ("2.9.1", False, 30),
        ("2.10.0rc1", True, 0),
        ("2.10.0+cu128", True, 0),
        ("2.10.0+cu128", False, 30),
        ("2.11.0", True, 0),
    ],
)
def test_moe_on_cuda_draws_the_line_at_torch_2_10(torch: str, mega: bool, total: int) -> None:
    where = situation(torch=torch, vllm="0.20.2", flags={MEGA: mega})
    assert values(SHIPPED.expect(where, StartKind.COLD)) == {
        SAVED: 3,
        LOADED: 0,
        TOTAL: 33,
        MISS: 3,
        HIT: 0,
    }
    assert values(SHIPPED.expect(where, StartKind.WARM)) == {
        SAVED: 0,
        LOADED: 3,
        TOTAL: total,
        MISS: 0,
        HIT: 0,
    }


@pytest.mark.parametrize(("vllm", "saved"), [("0.17.1", 1), ("0.18.1", 0), ("0.19.1", 0)])
def test_moe_on_cuda_saved_one_too_many_in_vllm_0_17(vllm: str, saved: int) -> None:
    found = values(SHIPPED.expect(situation(vllm=vllm, flags={MEGA: False}), StartKind.WARM))
    assert found == {SAVED: saved, LOADED: 3, TOTAL: 30, MISS: 0, HIT: saved}


@pytest.mark.parametrize(("vllm", "counted"), [("0.17.1", {SAVED: 0, LOADED: 0}), ("0.18.1", {})])
def test_the_mega_artifact_was_not_counted_before_vllm_0_19(
    vllm: str, counted: dict[str, int]
) -> None:
    where = situation(vllm=vllm, flags={MEGA: True})
    for start in StartKind:
        found = values(SHIPPED.expect(where, start))
        assert {name: found[name] for name in (SAVED, LOADED) if name in found} == counted


@pytest.mark.parametrize(
    ("case", "torch", "counts"),
    [
        ("gpt_oss_120b", "2.11.0", (3, 0, 3)),
        ("deepseek_v3.2", "2.11.0", (4, 4, 0)),
        ("kimi_k2.5", "2.11.0", (4, 4, 0)),
        ("glm_4.5", "2.12.0", (4, 0, 4)),
        ("minimax_m2.5", "2.12.0", (3, 0, 3)),
    ],
)
def test_models_on_cuda(case: str, torch: str, counts: tuple[int, int, int]) -> None:
    where = situation(f"model_startup[{case}]", torch=torch, vllm="0.20.2", flags={MEGA: False})
    assert values(SHIPPED.expect(where, StartKind.COLD)) == {SAVED: counts[0], LOADED: 0}
    assert values(SHIPPED.expect(where, StartKind.WARM)) == {SAVED: counts[1], LOADED: counts[2]}


def shipped(where: Situation) -> dict[str, dict[str, int]]:
    return {
        start: values(SHIPPED.expect(where, start)) for start in (StartKind.COLD, StartKind.WARM)
    }


def provisional(where: Situation) -> dict[str, dict[str, int]]:
    """Return what is expected, and of what is not, what the nearest rule had."""
    return {
        start: values({**SHIPPED.nearest(where, start), **SHIPPED.expect(where, start)})
        for start in (StartKind.COLD, StartKind.WARM)
    }


MODELS = ["gpt_oss_120b", "deepseek_v3.2", "kimi_k2.5", "glm_4.5", "minimax_m2.5"]


CASES = [
    "small_startup[dense]",
    "small_startup[moe]",
    *(f"model_startup[{model}]" for model in MODELS),
]


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mega", [True, False])
def test_the_mega_artifact_decides_and_not_torch(case: str, platform: str, mega: bool) -> None:
    """Torch 2.12 turns it on by default (vllm-project/vllm #37198).

    Under the newer torch releases that no evidence of that value is of, the nearest rules say the
    same. An older torch than the pin is compared with an older vLLM, which counts otherwise.
    """
    first, *others = [
        provisional(situation(case, platform, torch, "0.20.2", {MEGA: mega}))
        for torch in ("2.11.0", "2.12.0rc1", "2.12.0", "2.13.0")
    ]
    assert first["cold"] and first["warm"]
    for counts in others:
        assert all(counts[start].items() >= first[start].items() for start in first)


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
@pytest.mark.parametrize("case", ["deepseek_v3.2", "kimi_k2.5"])
@pytest.mark.parametrize(("mega", "saved", "loaded"), [(False, 4, 0), (True, 0, 4)])
def test_two_models_save_again_without_the_mega_artifact(
    case: str, platform: str, mega: bool, saved: int, loaded: int
) -> None:
    torch = "2.12.1" if mega else "2.11.0"
    found = shipped(situation(f"model_startup[{case}]", platform, torch, "0.20.2", {MEGA: mega}))
    assert (found["cold"][SAVED], found["cold"][LOADED]) == (4, 0)
    assert (found["warm"][SAVED], found["warm"][LOADED]) == (saved, loaded)


@pytest.mark.parametrize(
    ("vllm", "artifacts"),
    [("0.19.0", 4), ("0.24.0", 4), ("0.25.0", 9), ("0.26.0", 9), ("0.28.0", 9)],
)
@pytest.mark.parametrize("mega", [False, True])
def test_deepseek_on_cuda_shares_no_subgraph_from_vllm_0_25(
    vllm: str, artifacts: int, mega: bool
) -> None:
    found = shipped(situation("model_startup[deepseek_v3.2]", "cuda", "2.11.0", vllm, {MEGA: mega}))
    assert found["cold"] == {SAVED: artifacts, LOADED: 0}
    if mega and vllm == "0.19.0":  # upstream's test of it does not know, and no record does
        assert found["warm"] == {}
    else:
        again = (0, artifacts) if mega else (artifacts, 0)
        assert (found["warm"][SAVED], found["warm"][LOADED]) == again


@pytest.mark.parametrize("vllm", ["0.27.1", "0.28.0"])
def test_deepseek_on_cuda_loads_what_was_compiled_where_a_record_shows_it(vllm: str) -> None:
    """Without the mega artifact vLLM 0.26 compiled again, so nobody knows what 0.27 does."""
    for torch, mega in (("2.13.0", True), ("2.11.0", False)):
        flags: dict[str, object] = {
            MEGA: mega,
            "VLLM_USE_AOT_COMPILE": True,
            "VLLM_DISABLE_COMPILE_CACHE": False,
        }
        where = situation("model_startup[deepseek_v3.2]", "cuda", torch, vllm, flags)
        assert shipped(where)["warm"].get("num_aot_artifacts_loaded") == (1 if mega else None)
        if not mega:
            near = SHIPPED.nearest(where, StartKind.WARM)["num_aot_artifacts_loaded"]
            assert (near.value, near.vllm, near.torch) == (0, "0.26", None)


@pytest.mark.parametrize("vllm", ["0.29.0", "0.31.0", "0.33.0"])
def test_deepseek_on_cuda_is_not_compiled_from_vllm_0_29(vllm: str) -> None:
    where = situation("model_startup[deepseek_v3.2]", "cuda", "2.13.0", vllm, {MEGA: True})
    found = shipped(where)
    for counts in found.values():
        assert {counts[name] for name in counts if name.startswith("num_")} == {0}
    assert found["cold"]["aot_autograd.total"] == found["warm"]["aot_autograd.total"] == 1


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("vllm", ["0.17.1", "0.18.1"])
def test_no_artifact_is_expected_where_the_mega_artifact_is_not_counted(
    case: str, platform: str, vllm: str
) -> None:
    for start, found in shipped(situation(case, platform, vllm=vllm, flags={MEGA: True})).items():
        assert not found.get(SAVED) and not found.get(LOADED), start


def told_of(expectations: Expectations, root: Path) -> list[str]:
    """Return what `matrix check` says of the records that rules name, below a folder."""
    found = unfounded(expectations, lambda name: path if (path := root / name).is_file() else None)
    return fault_lines(list(found), "rules")


def test_the_records_that_the_rules_name_are_their_evidence() -> None:
    assert told_of(load_expectations(), ROOT) == []


RUNS = sorted(ROOT.glob("tests/attribution/*/*.json"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.parent.name)
def test_runs_that_no_rule_was_made_of_are_as_expected(path: Path) -> None:
    """Two cells with the other value of the mega artifact's flag, and two like them.

    Two are beyond the end of the rules, and count as the nearest release did.
    """
    told = judge(read(path), SHIPPED)
    if path.parent.name in {"mega-off", "torch-213"}:
        assert told.provisional is not None
        assert (told.verdict, told.provisional.differences) == ("untested", ())
    else:
        assert told.verdict == "compatible", told.reason


def test_the_rules_of_other_cells_predict_torch_2_12() -> None:
    """What torch 2.12 counts with vLLM 0.20, by rules with other evidence as well."""
    own = "results/cpu/py311-torch212-vllm020.json"
    others = Expectations(rules=tuple(rule for rule in SHIPPED.rules if set(rule.records) - {own}))
    told = {verdict.case: verdict for verdict in judge(read(ROOT / own), others).cases}
    # DeepSeek-V3.2 does not apply to the other published cells with the mega artifact.
    alone = {"model_startup[deepseek_v3.2]"}
    predicted = {case for case, verdict in told.items() if verdict.verdict == "compatible"}
    assert predicted >= told.keys() - alone
    assert not any(verdict.differences for verdict in told.values())


@pytest.mark.parametrize(
    ("evidence", "changes", "fault"),
    [
        (None, {}, None),
        ("https://example.org/issues/1", {}, None),
        ("records/cpu/py311-torch210-vllm019.json", {}, "is not there; restore it, or name"),
        ("a record", {}, "is not there; restore it, or name another"),
        ("results/cuda/py311-torch210-vllm019.json", {}, "is not there; restore it"),
        (None, {"cell": "py312-torch210-vllm019"}, "cell: is py312-torch210-vllm019, but"),
        (None, {"platform": "cuda"}, "has no start that the rule is about"),
        (None, {"saved": 4}, "has no start that the rule is about"),
        (None, {"case": "small_startup[moe]"}, "has no start that the rule is about"),
    ],
)
def test_what_is_no_evidence_is_told(
    tmp_path: Path, evidence: str | None, changes: dict[str, Any], fault: str | None
) -> None:
    path = "results/cpu/py311-torch210-vllm019.json"
    values: dict[str, Any] = {
        "case": "moe_startup[mega_aot=1]",
        "saved": 3,
        "cell": "py311-torch210-vllm019",
        "platform": "cpu",
        **changes,
    }
    record = Record(
        cell=values["cell"],
        platform=values["platform"],
        finished=True,
        provenance=provenance("2.10.0+cu128", "0.19.1"),
        cases=(
            Case(
                case=values["case"],
                outcome=Outcome.PASSED,
                starts=(
                    Start(start=StartKind.COLD, seconds={}, counters={SAVED: values["saved"]}),
                ),
            ),
        ),
    )
    write(record, tmp_path / path)
    one = Rule(
        id="one",
        start=StartKind.COLD,
        counters={SAVED: 3},
        evidence=("a.json",),
        case="moe_startup",
        platform=Platform.CPU,
    )
    named = replace(one, evidence=(evidence or path,))
    told = told_of(Expectations(rules=(named,)), tmp_path)
    assert len(told) == bool(fault)
    assert all(line.startswith("rules: rule 'one': evidence: ") for line in told)
    assert fault is None or (named.evidence[0] in told[0] and fault in told[0])
