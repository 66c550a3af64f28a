"""Which pair `recommend` takes on a small catalogue, and why none newer fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

import advised
from advised import known, on_gpu
from made import NO, YES, failed, make, passed
from matrix.advice.kinds import EvidenceKind
from matrix.advice.reasons import MisfitCode
from matrix.advice.recommend import Choice, Recommendation, recommend
from matrix.advice.wish import Wish
from matrix.catalog.hardware import Capability, ModelNeed, driver_of
from matrix.report.advice.recommend import content, lines
from schemas import valid

GPU = advised.HARDWARE.gpu
NO_WHEEL = MisfitCode.NO_WHEEL


def chosen(found: Recommendation) -> tuple[str, str, str] | None:
    choice = found.choice
    if choice is None:
        return None
    return choice.pair.vllm.version, choice.pair.torch.version, choice.python


def reasons(found: Recommendation) -> dict[str, MisfitCode]:
    return {excluded.pair.vllm.version: excluded.reason.code for excluded in found.newer}


def ask(*records: Any, answers: Any = None, **wish: Any) -> Recommendation:
    return recommend(Wish(**wish), known(*records, answers=answers))


def test_without_a_wish_the_newest_pair_fits() -> None:
    found = ask()
    assert chosen(found) == ("0.20.0", "2.11.0", "3.12")
    assert found.newer == ()
    assert found.choice is not None and found.choice.evidence.kind is EvidenceKind.STATIC


@pytest.mark.parametrize(
    ("wish", "vllm", "why"),
    [
        ({"driver": driver_of("570")}, "0.19.0", {"0.20.0": MisfitCode.OLD_DRIVER}),
        ({"driver": driver_of("580")}, "0.20.0", {}),
        ({"driver": driver_of("580.1")}, "0.19.0", {"0.20.0": MisfitCode.OLD_DRIVER}),
        ({"gpu": GPU("v100")}, "0.19.0", {"0.20.0": MisfitCode.NO_GPU_CODE}),
        ({"gpu": GPU("l40s")}, "0.20.0", {}),
        ({"gpu": GPU("sm_121")}, "0.19.0", {"0.20.0": MisfitCode.NO_GPU_CODE}),
        ({"python": "3.10"}, "0.19.0", {"0.20.0": MisfitCode.FAILS}),
        ({"cuda": SpecifierSet("==12.*")}, "0.19.0", {"0.20.0": MisfitCode.OTHER_CUDA}),
        ({"machine": "aarch64", "vllm": SpecifierSet("==0.19.0")}, None, {"0.19.0": NO_WHEEL}),
        (
            {"glibc": "2.29", "driver": driver_of("570")},
            None,
            {
                "0.20.0": MisfitCode.OLD_DRIVER,
                "0.19.0": MisfitCode.GLIBC_OF_WHEEL,
                "0.18.0": MisfitCode.GLIBC_OF_LIBRARY,
            },
        ),
        ({"vllm": SpecifierSet("<0.20")}, "0.19.0", {}),
        (
            {"torch": SpecifierSet("==2.10.0")},
            "0.19.0",
            {"0.20.0": MisfitCode.NOT_LINKED},
        ),
    ],
)
def test_each_constraint(
    wish: dict[str, Any], vllm: str | None, why: dict[str, MisfitCode]
) -> None:
    found = ask(**wish)
    assert (found.choice and found.choice.pair.vllm.version) == vllm
    assert reasons(found) == why


def test_a_torch_that_links_off_the_pin_is_taken_and_marked() -> None:
    answers = advised.Told(links={("2.10.0", "0.20.0"): YES})
    found = ask(answers=answers, torch=SpecifierSet("==2.10.0"))
    assert chosen(found) == ("0.20.0", "2.10.0", "3.12")
    choice = found.choice
    assert choice is not None and choice.pair.off_pin
    assert choice.install.overrides == (
        "torch==2.10.0",
        "torchvision==0.25.0",
        "torchaudio==2.10.0",
    )
    assert (
        choice.install.backend == "cu130"
    )  # the vLLM is for CUDA 13, the torch's index wheel is not
    folder = "vllm-0.20.0-torch-2.10.0"
    written = "torch==2.10.0 torchvision==0.25.0 torchaudio==2.10.0"
    options = f"--torch-backend=cu130 --override {folder}/overrides.txt"
    for line in (
        f"    uv venv {folder} --python 3.12",
        f"    printf '%s\\n' {written} > {folder}/overrides.txt",
        f"    uv pip install --python {folder} vllm==0.20.0 {options}",
    ):
        assert line in lines(found).splitlines()


def test_a_check_that_says_no_excludes_a_pair_until_a_run_disproves_it() -> None:
    answers = advised.Told(links={("2.11.0", "0.20.0"): NO})
    assert reasons(ask(answers=answers)) == {"0.20.0": MisfitCode.FAILS}
    ran = on_gpu("2.11.0", passed(), vllm="0.20.0", python="3.12")
    assert chosen(ask(ran, answers=answers)) == ("0.20.0", "2.11.0", "3.12")


def test_a_pair_that_failed_on_a_gpu_is_not_taken_on_another_python_either() -> None:
    ran = on_gpu("2.11.0", failed(), vllm="0.20.0", python="3.12")
    assert reasons(ask(ran)) == {"0.20.0": MisfitCode.FAILS}
    assert reasons(ask(ran, python="3.11")) == {"0.20.0": MisfitCode.FAILS}


def test_one_python_that_fails_where_another_passed_is_avoided() -> None:
    records = (
        on_gpu("2.11.0", failed(), vllm="0.20.0", python="3.12"),
        on_gpu("2.11.0", passed(), vllm="0.20.0", python="3.13"),
    )
    assert chosen(ask(*records)) == ("0.20.0", "2.11.0", "3.13")


def test_a_model_that_fails_excludes_the_pair() -> None:
    ran = on_gpu("2.11.0", passed(), failed("big"), vllm="0.20.0", python="3.12")
    other = on_gpu("2.11.0", passed("moe"), passed("big"), vllm="0.20.0", python="3.13")
    assert reasons(ask(ran, other, model="big")) == {}
    assert reasons(ask(ran, model="big")) == {"0.20.0": MisfitCode.FAILS}


def test_drift_is_no_failure() -> None:
    ran = on_gpu("2.11.0", passed(num_compiled_artifacts_loaded=1), vllm="0.20.0", python="3.12")
    assert chosen(ask(ran)) == ("0.20.0", "2.11.0", "3.12")


def kind(found: Recommendation) -> EvidenceKind:
    assert found.choice is not None
    return found.choice.evidence.kind


def test_evidence_is_of_this_gpu_then_of_one_alike_then_of_any_then_of_the_cpu() -> None:
    ran = on_gpu("2.11.0", passed(), vllm="0.20.0", python="3.12")
    assert kind(ask(ran)) is EvidenceKind.MEASURED
    assert kind(ask(ran, gpu=GPU("h200"))) is EvidenceKind.MEASURED
    assert kind(ask(ran, gpu=GPU("sm_90"))) is EvidenceKind.MEASURED
    assert kind(ask(ran, gpu=GPU("h100"))) is EvidenceKind.ALIKE
    assert kind(ask(ran, gpu=GPU("a100"))) is EvidenceKind.ELSEWHERE
    assert kind(ask(ran, machine="aarch64")) is EvidenceKind.ELSEWHERE
    cpu = make("2.11.0", passed(), vllm="0.20.0", python="3.12")
    assert kind(ask(cpu)) is EvidenceKind.PREDICTED
    assert kind(ask(cpu, ran, gpu=GPU("a100"))) is EvidenceKind.ELSEWHERE


def test_of_two_gpus_the_one_that_was_asked_for_counts() -> None:
    a100 = {**advised.H200, "name": "NVIDIA A100-SXM4-80GB", "capability": "8.0"}
    records = (
        on_gpu("2.11.0", passed(), vllm="0.20.0", python="3.12", day=20),
        on_gpu(
            "2.11.0",
            passed(),
            vllm="0.20.0",
            python="3.12",
            day=22,
            provenance={"gpu": a100},
            file="other",
        ),
    )
    for name in ("h200", "a100"):
        found = ask(*records, gpu=GPU(name)).choice
        assert found is not None and found.evidence.measured is not None
        assert name in str(found.evidence.measured.gpu).lower()


def test_the_least_evidence_takes_an_older_pair_which_is_named_without_it() -> None:
    ran = on_gpu("2.10.0", passed(), vllm="0.18.0", python="3.11")
    found = ask(ran, evidence=EvidenceKind.ELSEWHERE)
    assert chosen(found) == ("0.18.0", "2.10.0", "3.11")
    assert set(reasons(found).values()) == {MisfitCode.LITTLE_EVIDENCE}
    plain = ask(ran)
    assert chosen(plain) == ("0.20.0", "2.11.0", "3.12")
    assert isinstance(plain.measured, Choice)
    assert plain.measured.pair.vllm.version == "0.18.0"


def test_a_wheel_that_nobody_read_is_never_said_to_run() -> None:
    found = ask(gpu=GPU("v100")).choice
    assert found is not None
    vllm, torch = found.needs
    assert (vllm.version, vllm.is_read, vllm.code) == ("0.19.0", False, None)
    assert torch.code is not None and torch.code.fit == "own"


def test_ptx_takes_the_driver_of_its_own_cuda() -> None:
    wheels = (advised.wheel("vllm", "0.20.0", advised.archs("compute_80")),)
    for driver, vllm in (("580", "0.20.0"), ("570", None)):
        wish = Wish(driver=driver_of(driver), gpu=GPU("a100"), vllm=SpecifierSet(">=0.20"))
        found = recommend(wish, known(wheels=wheels))
        assert (found.choice and found.choice.pair.vllm.version) == vllm
    old = advised.vllm("0.21.0", "2.10.0", cuda="12.9")
    wheels = (advised.wheel("vllm", "0.21.0", advised.archs("compute_80")),)
    wish = Wish(driver=driver_of("570"), gpu=GPU("a100"), vllm=SpecifierSet(">=0.21"))
    found = recommend(wish, known(vllms=(*advised.VLLM, old), wheels=wheels))
    assert reasons(found) == {"0.21.0": MisfitCode.OLD_DRIVER_FOR_PTX}


def test_on_aarch64_torch_gets_a_backend_unless_its_wheel_there_has_gpu_code() -> None:
    def backend(*more: Any) -> str | None:
        wheels = (*advised.WHEELS, *more)
        wish = Wish(machine="aarch64", vllm=SpecifierSet("==0.18.0"))
        choice = recommend(wish, known(wheels=wheels)).choice
        assert choice is not None
        return choice.install.backend

    arm = {"machine": "aarch64"}
    assert backend() == "cu128"
    assert backend(advised.wheel("torch", "2.10.0", advised.archs("sm_90"), **arm)) is None
    assert backend(advised.wheel("torch", "2.10.0", None, **arm)) == "cu128"
    assert ask().choice is not None and ask().choice.install.backend is None  # type: ignore[union-attr]


def test_a_flavour_that_the_table_does_not_have_is_not_named() -> None:
    choice = recommend(Wish(machine="aarch64"), known()).choice
    assert choice is not None and choice.pair.torch.version == "2.11.0"
    assert advised.HARDWARE.others("torch", "2.11.0") == ()
    assert choice.install.backend is None


def test_a_torch_without_cuda_is_named_so() -> None:
    torch = advised.wheel("torch", "2.10.0", None, machine="aarch64")
    wish = Wish(machine="aarch64", gpu=GPU("gb10"), vllm=SpecifierSet("==0.18.0"))
    text = lines(recommend(wish, known(wheels=(*advised.WHEELS, torch))))
    assert "GPU code none: the index's wheel is without CUDA" in text
    command = "uv pip install --python vllm-0.18.0 vllm==0.18.0 --torch-backend=cu128"
    assert f"    {command}" in text.splitlines()


def test_on_aarch64_the_cuda_is_that_of_wheels_that_were_read_there() -> None:
    read = advised.wheel("vllm", "0.20.0", advised.archs("sm_90"), machine="aarch64")
    wish = Wish(machine="aarch64", driver=driver_of("575"), cuda=SpecifierSet("==12.*"))
    found = recommend(wish, known(wheels=(*advised.WHEELS, read)))
    assert reasons(found) == {"0.20.0": MisfitCode.OTHER_CUDA, "0.19.0": NO_WHEEL}
    # Nobody read the wheels of 0.18.0 and its torch for it.
    text = " ".join(lines(found).split())
    glibc = "glibc 2.28 or newer by its tag (glibc of its libraries: not read)"
    assert text.count(f"CUDA not read, driver not read, {glibc}, GPU code not read") == 2
    values = valid("recommend", content(found))["choice"]["wheels"]
    assert [(row["cuda"], row["driver"]) for row in values] == [(None, None)] * 2
    bare = advised.wheel("torch", "2.10.0", None, machine="aarch64")
    text = lines(recommend(wish, known(wheels=(read, bare))))
    assert "without CUDA, glibc 2.28 or newer, GPU code none: the index's wheel is" in text


def test_wheels_of_other_indexes_are_named_and_never_recommended() -> None:
    found = ask(driver=driver_of("570"))
    (other,) = {(wheels.version, wheels.cuda) for wheels in found.elsewhere}
    assert other == ("0.20.0", "12.9")
    assert chosen(found) == ("0.19.0", "2.10.0", "3.12")
    assert ask(driver=driver_of("520")).elsewhere == ()


def test_wheels_of_other_indexes_fit_all_else_that_was_asked() -> None:
    def offered(*records: Any, **wish: Any) -> bool:
        return bool(ask(*records, driver=driver_of("570"), **wish).elsewhere)

    assert offered() and offered(glibc="2.28") and offered(python="3.12")
    assert not offered(glibc="2.17")
    assert not offered(torch=SpecifierSet("==2.10.0"))
    assert not offered(python="3.10")
    assert not offered(gpu=GPU("v100"))
    assert not offered(evidence=EvidenceKind.MEASURED)
    assert not offered(on_gpu("2.11.0", failed(), vllm="0.20.0", python="3.12"))


def test_a_yanked_release_is_not_taken() -> None:
    gone = advised.vllm("0.21.0", "2.11.0", yanked="broken")
    found = recommend(Wish(), known(vllms=(*advised.VLLM, gone)))
    assert reasons(found) == {"0.21.0": MisfitCode.YANKED}


def test_a_pair_that_the_cpu_predicts_to_fail_is_not_taken() -> None:
    fails = make("2.11.0", passed(), failed("big"), vllm="0.20.0", python="3.12")
    for wish in ({}, {"evidence": EvidenceKind.PREDICTED}, {"model": "big"}):
        found = ask(fails, **wish)
        assert reasons(found)["0.20.0"] is MisfitCode.PREDICTED_TO_FAIL
    text = lines(ask(fails))
    assert (
        "vLLM 0.20.0: is predicted to fail at `starts cold`, as py312-torch211-vllm020 did on the"
        " CPU" in text
    )
    # A run on a GPU disproves it, and so does one on another Python.
    ran = on_gpu("2.11.0", passed(), vllm="0.20.0", python="3.13")
    assert chosen(ask(fails, ran)) == ("0.20.0", "2.11.0", "3.13")
    other = make("2.11.0", passed(), vllm="0.20.0", python="3.11")
    assert chosen(ask(fails, other)) == ("0.20.0", "2.11.0", "3.11")


def warm(found: Recommendation) -> str:
    (line,) = [line for line in lines(found).splitlines() if line.startswith("warm start")]
    return line.removeprefix("warm start").strip()


@pytest.mark.parametrize(
    ("ran", "nothing", "loads"),
    [
        (
            on_gpu,
            "none of 1 case compiles again",
            "cold 60.0 s, warm 10.0 s, loads all it needs warm",
        ),
        (make, "predicted: nothing compiles again", "predicted: loads all it needs"),
    ],
)
def test_only_of_cases_as_expected_is_known_what_compiles_again(
    ran: Any, nothing: str, loads: str
) -> None:
    drifted = passed("big", num_compiled_artifacts_loaded=1)
    both = ran("2.11.0", passed(), drifted, vllm="0.20.0", python="3.12")
    assert warm(ask(both)) == f"{nothing}; not known of 1 other case"
    assert warm(ask(both, model="moe")) == f"moe: {loads}"
    assert warm(ask(both, model="big")).endswith("not known")
    alone = ran("2.11.0", drifted, vllm="0.20.0", python="3.12")
    assert warm(ask(alone)) == "not known"


def evidence_line(found: Recommendation) -> str:
    (line,) = [line for line in lines(found).splitlines() if line.startswith("evidence")]
    return line.removeprefix("evidence").strip()


def test_with_a_model_a_run_counts_only_where_it_has_an_answer_of_it() -> None:
    without = on_gpu("2.11.0", passed(), vllm="0.20.0", python="3.12")
    other = on_gpu("2.10.0", passed("big"), vllm="0.18.0", python="3.12")
    wish = {"model": "big", "evidence": EvidenceKind.MEASURED}
    found = ask(without, other, **wish)
    assert chosen(found) == ("0.18.0", "2.10.0", "3.12")
    assert reasons(found)["0.20.0"] is MisfitCode.LITTLE_EVIDENCE
    assert "and --evidence measured was asked for" in lines(found)
    assert kind(ask(without, model="big")) is EvidenceKind.STATIC
    cpu = make("2.11.0", passed(), vllm="0.20.0", python="3.12")
    assert kind(ask(cpu, model="moe")) is EvidenceKind.PREDICTED
    assert kind(ask(cpu, model="big")) is EvidenceKind.STATIC


def test_a_run_on_another_python_is_named() -> None:
    ran = on_gpu("2.11.0", passed(), vllm="0.20.0", python="3.12")
    assert "on Python 3.12" in evidence_line(ask(ran, python="3.13"))
    assert "on Python" not in evidence_line(ask(ran, python="3.12"))


def test_a_partial_run_is_marked() -> None:
    ran = on_gpu("2.11.0", passed(), vllm="0.20.0", python="3.12", deselected=8)
    assert evidence_line(ask(ran)).endswith(
        "2026-11-22, 1 of 9 cases: 1 case as expected (py312-torch211-vllm020.json)"
    )
    found = valid("recommend", content(ask(ran)))["choice"]["evidence"]["measured"]
    assert found["partial"] == {"held": 1, "total": 9}


def test_evidence_of_this_kind_of_gpu_is_called_so() -> None:
    ran = on_gpu("2.11.0", passed(), vllm="0.20.0", python="3.12")
    assert evidence_line(ask(ran)).startswith("measured: NVIDIA H200")
    assert evidence_line(ask(ran, gpu=GPU("h200"))).startswith(
        "measured on this kind of GPU: NVIDIA H200"
    )


def test_what_a_record_says_does_not_reach_the_terminal_raw() -> None:
    evil = "580\x1b[31m\n::error::x"
    gpu = {**advised.H200, "name": f"H{evil}", "driver": evil}
    case = f"big{evil}"
    ran = on_gpu("2.11.0", passed(case), vllm="0.20.0", python="3.12", provenance={"gpu": gpu})
    cpu = make("2.11.0", passed(case), vllm="0.20.0", python="3.12")
    for record in (ran, cpu):
        for model in (None, case):
            text = lines(ask(record, model=model))
            assert "\x1b" not in text
            assert not any(line.startswith("::") for line in text.splitlines())


DEEP_GEMM = "RuntimeError: the indexer requires DeepGEMM support"
LACKS = {
    ("2.10.0", "0.20.0"): {"DeepGEMM": False, "FlashMLA": True},
    ("2.11.0", "0.20.0"): {"DeepGEMM": True, "FlashMLA": True},
}
LINK = {("2.10.0", "0.20.0"): YES, ("2.11.0", "0.20.0"): YES}


def test_features_that_do_not_link_are_named() -> None:
    answers = advised.Told(links=LINK, features=LACKS)
    found = ask(answers=answers, torch=SpecifierSet("==2.10.0"))
    assert chosen(found) == ("0.20.0", "2.10.0", "3.12")
    assert "without a run of the pair; links, without DeepGEMM" in lines(found)
    evidence = valid("recommend", content(found))["choice"]["evidence"]
    assert evidence["without"] == ["DeepGEMM"]
    assert "links, without DeepGEMM" in evidence["text"]


def test_a_pair_whose_features_all_link_goes_before_a_newer_torch() -> None:
    lacks = {("2.11.0", "0.19.0"): {"DeepGEMM": False}, ("2.10.0", "0.19.0"): {"DeepGEMM": True}}
    vllms = (advised.vllm("0.19.0", "2.11.0"),)
    links = dict.fromkeys(lacks, YES)
    facts = known(vllms=vllms, answers=advised.Told(links=links, features=lacks))
    found = recommend(Wish(torch=SpecifierSet(">=2.10")), facts)
    assert chosen(found) == ("0.19.0", "2.10.0", "3.12")
    alone = recommend(Wish(), facts)
    assert chosen(alone) == ("0.19.0", "2.11.0", "3.12")


def test_a_model_that_failed_for_want_of_the_feature_is_refused_and_else_named() -> None:
    lacks = {**LACKS, ("2.11.0", "0.20.0"): {"DeepGEMM": False}}
    answers = advised.Told(links=LINK, features=lacks)
    ran = on_gpu(
        "2.11.0",
        passed(),
        failed("model_startup[deep]", DEEP_GEMM),
        vllm="0.20.0",
        python="3.12",
    )
    wish = {"torch": SpecifierSet("==2.10.0"), "vllm": SpecifierSet("==0.20.0")}
    found = ask(ran, answers=answers, **wish, model="model_startup[deep]")
    assert chosen(found) is None
    assert "links, without DeepGEMM, and model_startup[deep] fails without DeepGEMM in" in " ".join(
        lines(found).split()
    )
    other = ask(ran, answers=answers, **wish)
    assert "without DeepGEMM, in py312-torch211-vllm020: model_startup[deep]" in lines(other)
    assert (
        valid("recommend", content(other))["choice"]["failed_without"][0]["feature"] == "DeepGEMM"
    )


def test_a_failure_for_another_reason_refuses_no_model() -> None:
    lacks = {**LACKS, ("2.11.0", "0.20.0"): {"DeepGEMM": False}}
    ran = on_gpu("2.11.0", failed("deep", "KeyError: x"), vllm="0.20.0", python="3.12")
    found = ask(
        ran,
        answers=advised.Told(links=LINK, features=lacks),
        torch=SpecifierSet("==2.10.0"),
        vllm=SpecifierSet("==0.20.0"),
        model="deep",
    )
    assert chosen(found) == ("0.20.0", "2.10.0", "3.12")


def test_a_run_on_the_gpu_shows_whether_a_newer_release_takes_the_model_there() -> None:
    need = ModelNeed(case="moe", least=Capability(9, 0), versions=SpecifierSet("<0.20"))
    a100 = {**advised.H200, "name": "NVIDIA A100-SXM4-80GB", "capability": "8.0"}
    ran = on_gpu("2.11.0", passed(), vllm="0.20.0", python="3.12", provenance={"gpu": a100})
    for records, is_known in (((), False), ((ran,), True)):
        facts = known(*records)
        hardware = replace(advised.HARDWARE, models=(need,))
        facts = replace(facts, tables=replace(facts.tables, hardware=hardware))
        found = recommend(Wish(gpu=GPU("a100"), model="moe"), facts)
        assert chosen(found) == ("0.20.0", "2.11.0", "3.12")
        line = "whether moe starts on this GPU: vLLM <0.20 refuses it below compute capability 9.0"
        assert (line not in " ".join(lines(found).split())) is is_known
