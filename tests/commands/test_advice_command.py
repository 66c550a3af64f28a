"""`matrix recommend`, `upgrade` and `wheels` of the package's data and published records."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from command import matrix
from schemas import valid

RESULTS = Path(__file__).parents[2] / "results"
KNOWN = "--vllm", "<0.34"
"""The releases that were known when these tests were written."""

CUDA = "py312-torch210-vllm019.json"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Make a folder with one published run, of an H200."""
    folder = tmp_path / "results" / "cuda"
    folder.mkdir(parents=True)
    shutil.copy(RESULTS / "cuda" / CUDA, folder)
    return tmp_path


def test_a_driver_of_cuda_12_gets_the_last_release_for_it_and_the_reason(here: Path) -> None:
    ended = matrix(here, "recommend", "--driver", "570", "--gpu", "h100", *KNOWN)
    text = ended.stdout.splitlines()
    assert ended.returncode == 0
    assert text[0] == "vLLM 0.19.1 with torch 2.10.0 on Python 3.12"
    assert "    uv pip install --python vllm-0.19.1 vllm==0.19.1" in text
    assert text[text.index("why not newer:") + 1] == (
        "  vLLM 0.20.0 to 0.33.0: its wheel, for CUDA 13.0, needs driver 580.65.06 or newer,"
        " not 570"
    )
    assert "measured on another GPU of the same compute capability: NVIDIA H200" in ended.stdout
    assert "nobody has read it" in text[-1]


def test_the_model_that_was_asked_for_says_how_it_starts(here: Path) -> None:
    for model in ("kimi_k2.5", "kimi-k2.5", "model_startup[kimi_k2.5]"):
        ended = matrix(here, "recommend", "--vllm", "0.19", "--model", model)
        (line,) = [line for line in ended.stdout.splitlines() if line.startswith("warm start")]
        assert "compiles again warm: https://github.com/" in line
        assert line.split()[2] == "model_startup[kimi_k2.5]:"


def test_a_model_that_is_nearly_right_is_named(here: Path) -> None:
    ended = matrix(here, "recommend", "--model", "kimi_k2")
    assert ended.stderr.rstrip().endswith("; did you mean 'kimi_k2.5'?")


def test_code_that_nobody_read_is_named_in_the_first_line(here: Path) -> None:
    for gpu in ("sm_130", "sm_60"):
        first = matrix(here, "recommend", "--gpu", gpu, *KNOWN).stdout.splitlines()[0]
        assert first.endswith(
            "; whether the wheel of vLLM and of torch have code for this GPU: not read"
        )
    assert "not read" not in matrix(here, "recommend", "--gpu", "h100").stdout.splitlines()[0]


def test_json_says_the_same_to_programs(here: Path) -> None:
    ended = matrix(here, "recommend", "--driver", "570", "--gpu", "h200", "--json", *KNOWN)
    found = valid("recommend", ended.stdout)
    assert (found["choice"]["vllm"], found["choice"]["torch"]) == ("0.19.1", "2.10.0")
    assert found["choice"]["evidence"]["kind"] == "measured"
    assert found["choice"]["evidence"]["measured"]["gpu"] == "NVIDIA H200"
    assert found["choice"]["commands"][-1] == "uv pip install --python vllm-0.19.1 vllm==0.19.1"
    first = found["not_newer"][0]
    assert (first["vllm"], first["code"]) == ("0.33.0", "needs a newer driver")
    assert first["operands"]["wanted"] == "580.65.06"
    nothing = valid("recommend", matrix(here, "recommend", "--driver", "520", "--json").stdout)
    assert nothing["choice"] is None and len(nothing["not_newer"]) > 40


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ("--driver", "520"),
            (
                "no pair fits: driver 520 is older than every wheel needs; the least is 525.60.13,"
                " of vLLM 0.9.0 to 0.19.1"
            ),
        ),
        (
            ("--driver", "570", "--vllm", ">=0.20,<0.34"),
            (
                "no pair fits: vLLM 0.20.0 to 0.33.0: its wheel, for CUDA 13.0, needs driver"
                " 580.65.06 or newer, not 570"
            ),
        ),
        (
            ("--gpu", "v100", "--vllm", "0.33"),
            (
                "no pair fits: vLLM 0.33.0: its wheel has no code for sm_70, only for sm_75, sm_80,"
                " sm_86, sm_89, sm_90, sm_100 and sm_120"
            ),
        ),
        (
            ("--cuda", "12.6", *KNOWN),
            "no pair fits: vLLM 0.20.0 to 0.33.0: its wheel is for CUDA 13.0, not ==12.6",
        ),
        (
            ("--machine", "aarch64", "--vllm", "<0.10"),
            "no pair fits: vLLM 0.9.0 to 0.9.2: its wheel is not for aarch64",
        ),
    ],
)
def test_what_contradicts_itself_fits_nothing_and_says_why(
    here: Path, options: tuple[str, ...], line: str
) -> None:
    ended = matrix(here, "recommend", *options)
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[0] == line


def test_no_reason_is_printed_twice(here: Path) -> None:
    printed = matrix(here, "recommend", "--cuda", "11").stdout.splitlines()
    assert printed[0].startswith("no pair fits: vLLM ") and len(printed) > 1
    causes = [line.removeprefix("no pair fits:").partition(": ")[2] for line in printed]
    assert len(causes) == len(set(causes))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--driver", "new"), "matrix: --driver 'new': is not a version of a driver; write it as"),
        (("--gpu", "mi300x"), "matrix: --gpu 'mi300x': is a GPU of AMD, which needs builds of"),
        (("--gpu", "p100"), "matrix: --gpu 'p100': is not a known GPU; write its compute"),
        (("--gpu", "12"), "matrix: --gpu '12': is not a known GPU; write its compute"),
        (("--gpu", "900"), "matrix: --gpu '900': is not a known GPU; write its compute"),
        (("--glibc", "3"), "matrix: --glibc '3': is not a version of glibc; write it as 2.31"),
        (("--cuda", "x"), "matrix: --cuda 'x': is not a CUDA; write it as 12.9, 12 or '<13'"),
        (("--cuda", ""), "matrix: --cuda '': is not a CUDA; write it as 12.9, 12 or '<13'"),
        (("--model", "gpt-9"), "matrix: --model 'gpt-9': no record has it; the models are"),
        (("--torch", "9.0"), "matrix: --torch 9.0: no known release matches (the nearest: "),
        (("--vllm", "x"), "matrix: --vllm 'x': is neither a release nor a specifier"),
        (("--python", "3.9"), "matrix: --python 3.9: is not known; the known are 3.10, 3.11"),
    ],
)
def test_bad_input_is_one_line_that_names_the_option_and_the_fix(
    here: Path, options: tuple[str, ...], line: str
) -> None:
    ended = matrix(here, "recommend", *options)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(line) and ended.stderr.count("\n") == 1


def test_options_that_argparse_knows_are_refused_by_name(here: Path) -> None:
    for options in (("--machine", "ppc64"), ("--python", "three"), ("--evidence", "much")):
        ended = matrix(here, "recommend", *options)
        assert ended.returncode == 2
        assert options[0] in ended.stderr and repr(options[1]) in ended.stderr


def test_without_records_the_answer_is_by_checks_alone(tmp_path: Path) -> None:
    ended = matrix(tmp_path, "recommend", "--vllm", "0.26")
    assert ended.returncode == 0
    assert "by checks alone, without a run of the pair; passed: declared, resolves and links" in (
        ended.stdout
    )
    model = matrix(tmp_path, "recommend", "--model", "glm_4.5")
    assert model.returncode == 2 and "no record has a model" in model.stderr


def test_a_bad_record_is_named_and_the_rest_counts(here: Path) -> None:
    (here / "results" / "cuda" / "bad.json").write_text("{", encoding="utf-8")
    ended = matrix(here, "recommend", "--vllm", "0.19")
    assert ended.returncode == 2 and "bad.json" in ended.stderr
    assert "NVIDIA H200" in ended.stdout


def test_upgrade_says_what_changes_and_what_stays_behind(here: Path) -> None:
    ended = matrix(here, "upgrade", "--from", "0.19.1", "--to", "0.26")
    assert ended.returncode == 0
    text = [" ".join(line.split()) for line in ended.stdout.splitlines()]
    for line in (
        "upgrade of vLLM 0.19.1 to 0.26.0, wheels for x86_64, Python 3.12",
        "torch 2.10.0 2.11.0",
        "CUDA of vLLM's wheel 12.9 13.0",
        "least driver 525.60.13 580.65.06",
        "flashinfer-cubin 0.6.6: with another version than flashinfer-python, which rejects it",
        "vLLM 0.26.0 with torch 2.11.0: no run on a GPU is known",
    ):
        assert line in text
    assert "nvidia-nccl-cu12" in ended.stdout
    found = valid(
        "upgrade", matrix(here, "upgrade", "--from", "0.26.0", "--to", "0.32.0", "--json").stdout
    )
    assert found["to"]["notes"][0]["id"] == "cuda-python beside cuda-bindings"
    assert found["commands"] == [
        "uv venv vllm-0.32.0 --python 3.12",
        "uv pip install --python vllm-0.32.0 vllm==0.32.0 'cuda-python>=13'",
    ]
    assert {"torch", "driver", "gpu_code"} <= {row["what"] for row in found["changes"]}


def test_a_downgrade_leaves_nothing_that_the_new_release_has(here: Path) -> None:
    ended = matrix(here, "upgrade", "--from", "0.26", "--to", "0.19", "--json", str(RESULTS))
    left = {row["package"] for row in valid("upgrade", ended.stdout)["left_behind"]}
    assert "nvidia-nccl-cu13" in left
    assert not left & {"apache-tvm-ffi", "jsonschema", "safetensors", "starlette"}


def test_what_upgrade_does_not_know_of_an_old_release_it_says(here: Path) -> None:
    ended = matrix(here, "upgrade", "--from", "0.9", "--to", "0.33", "--python", "3.14")
    assert "packages of vLLM 0.9.2: not known beyond what it requires itself" in ended.stdout
    assert "vLLM 0.9.2 is not for Python 3.14" in ended.stdout
    assert "uninstall" not in ended.stdout


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--from", "0.19", "--to", "0.19.1"), "matrix: --to '0.19.1': is the release of --from"),
        (("--from", "9", "--to", "0.19"), "matrix: --from '9': vLLM 9 is not known here; the near"),
        (("--from", "x", "--to", "0.19"), "matrix: --from 'x': is not a release; write it as 0.26"),
        (
            ("--from", "0.19", "--to", "0.26", "--python", "3.9"),
            "matrix: --python 3.9: is not known; the known are 3.10, 3.11",
        ),
        (
            ("--from", "0.19", "--to", "0.26", "--python", "3.99"),
            "matrix: --python 3.99: is not known; the known are 3.10, 3.11",
        ),
    ],
)
def test_releases_that_cannot_be_compared(here: Path, options: tuple[str, ...], line: str) -> None:
    ended = matrix(here, "upgrade", *options)
    assert ended.returncode == 2 and ended.stderr.startswith(line)


def test_wheels_shows_what_was_read_and_what_was_not(tmp_path: Path) -> None:
    file = tmp_path / "wheels.json"
    file.write_text(
        '{"wheels": [{"project": "vllm", "version": "0.26.0", "machine": "x86_64", "file": "a",'
        ' "record": "00", "glibc": "2.28", "code": {"vllm/_C.so": {"sm_80 sm_90": 2}}}]}',
        encoding="utf-8",
    )
    ended = matrix(tmp_path, "wheels", "--file", str(file), "--vllm", ">=0.25,<0.27")
    rows = [line.split("  ")[0] for line in ended.stdout.splitlines()[1:]]
    assert rows == ["vLLM 0.25.0", "vLLM 0.25.1", "vLLM 0.26.0"]
    assert ended.stdout.splitlines()[-1].endswith("sm_80 sm_90")
    assert ended.stdout.count("not read") == 4
    asked = ("--file", str(file), "--vllm", "0.26", "--gpu", "v100")
    assert "not for this chip" in matrix(tmp_path, "wheels", *asked).stdout
    (row,) = json.loads(matrix(tmp_path, "wheels", *asked, "--json").stdout)["wheels"]
    assert (row["fits_gpu"], row["gpu_code"]) == ("none", ["sm_80", "sm_90"])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--gpu", "x"), "matrix: --gpu 'x': is not a known GPU"),
        (("--torch", "9.0"), "matrix: --torch 9.0: no known release matches"),
        (("--read", "a.whl", "--json"), "matrix: --json: --read and --fill make data"),
        (("--read", "a.whl"), "matrix: a.whl: no such file"),
        (("--index", "https://i.example"), "matrix: --index: only --fill asks an index; add"),
        (("--read", "a.whl", "--index", "x"), "matrix: --index: only --fill asks an index; add"),
        (("--read", "a.whl", "--machine", "x86_64"), "matrix: --machine: --read takes the proc"),
    ],
)
def test_bad_input_of_wheels(tmp_path: Path, options: tuple[str, ...], line: str) -> None:
    ended = matrix(tmp_path, "wheels", "--file", str(tmp_path / "wheels.json"), *options)
    assert ended.returncode == 2 and ended.stderr.startswith(line)


def test_features_that_do_not_link_and_what_failed_for_them(tmp_path: Path) -> None:
    for platform, name in (
        ("cpu", "py312-torch215-vllm032.json"),
        ("cuda", "py312-torch214-vllm032.json"),
    ):
        folder = tmp_path / "results" / platform
        folder.mkdir(parents=True)
        shutil.copy(RESULTS / platform / name, folder)
    asked = ("recommend", "--torch", "2.15.0", "--vllm", "0.32.0")
    text = " ".join(matrix(tmp_path, *asked).stdout.split())
    assert "links, without DeepGEMM" in text
    assert "by py312-torch215-vllm032 on cpu (2026-11-30), 5 of 9 cases" in text
    assert "without DeepGEMM, in py312-torch214-vllm032: model_startup[deepseek_v3.2]" in text
    refused = matrix(tmp_path, *asked, "--model", "deepseek_v3.2")
    assert refused.returncode == 1
    assert "fails without DeepGEMM in py312-torch214-vllm032" in " ".join(refused.stdout.split())


def test_upgrade_compares_no_seconds_of_unlike_runs(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "cuda"
    folder.mkdir(parents=True)
    for name in ("py312-torch211-vllm024.json", "py312-torch214-vllm033.json"):
        shutil.copy(RESULTS / "cuda" / name, folder)
    text = " ".join(matrix(tmp_path, "upgrade", "--from", "0.24", "--to", "0.33").stdout.split())
    assert "The seconds of the two runs do not compare: " in text
    assert "cold and warm in seconds" not in text


@pytest.mark.parametrize(
    ("gpu", "driver", "line"),
    [
        ("rtx5090", "535", "does not know a GPU of compute capability 12.0; the first branch that"),
        (
            "b200",
            "535.183",
            "does not know a GPU of compute capability 10.0; the first branch that",
        ),
        ("b300", "570", "does not know a GPU of compute capability 10.3; the first branch that"),
        ("gb10", "470", "does not know a GPU of compute capability 12.1; the first branch that"),
        ("v100", "595", "no longer supports a GPU of compute capability 7.0; the last branch that"),
    ],
)
def test_a_driver_that_does_not_know_the_gpu(here: Path, gpu: str, driver: str, line: str) -> None:
    ended = matrix(here, "recommend", "--gpu", gpu, "--driver", driver)
    assert ended.returncode == 1
    assert " ".join(ended.stdout.split()).startswith(f"no pair fits: driver {driver} {line}")


def test_the_branches_of_a_gpu_are_named_where_no_driver_is(here: Path) -> None:
    ended = matrix(here, "recommend", "--gpu", "v100")
    assert "known to drivers of branch R580 or older" in ended.stdout
    found = valid("recommend", matrix(here, "recommend", "--gpu", "b200", "--json").stdout)
    assert found["driver_branches"] == {"first": "570", "last": None}
    assert matrix(here, "recommend", "--gpu", "v100", "--driver", "580").returncode == 0
    # The driver that the wheels need is of a newer branch, and says it all.
    assert "known to drivers" not in matrix(here, "recommend", "--gpu", "b300").stdout
    older = matrix(here, "recommend", "--gpu", "b300", "--vllm", "<0.20").stdout
    assert "known to drivers of branch R575 or newer" in older


def test_a_gpu_and_a_processor_that_it_does_not_come_with(here: Path) -> None:
    ended = matrix(here, "recommend", "--gpu", "gb10", "--machine", "x86_64")
    assert ended.returncode == 1
    assert ended.stdout == (
        "no pair fits: a gb10 comes with aarch64, and --machine x86_64 was asked for\n"
    )
    orin = matrix(here, "recommend", "--gpu", "Jetson AGX Orin").stdout
    assert "wheels for aarch64, with which a jetson agx orin" in orin


def test_a_model_that_a_release_refuses_on_the_gpu(here: Path) -> None:
    asked = ("recommend", "--gpu", "a100", "--model", "deepseek_v3.2", "--driver", "570")
    ended = matrix(here, *asked, "--vllm", "0.19")
    assert ended.returncode == 1
    assert " ".join(ended.stdout.split()) == (
        "no pair fits: vLLM 0.19.1: refuses model_startup[deepseek_v3.2] on a GPU below compute"
        " capability 9.0, and this one has 8.0"
    )
    newer = matrix(here, "recommend", "--gpu", "a100", "--model", "deepseek_v3.2")
    assert "whether model_startup[deepseek_v3.2] starts on this GPU: vLLM" in newer.stdout
    found = valid("recommend", matrix(here, *asked[:3], "--json", *asked[3:5]).stdout)
    assert found["refused"] == {
        "case": "model_startup[deepseek_v3.2]",
        "least_capability": "9.0",
        "vllm": ">=0.16,<0.31",
    }
    assert matrix(here, *asked[:2], "h100", *asked[3:], "--vllm", "0.19").returncode == 0


def test_the_flavour_of_the_command_has_a_driver_too(here: Path) -> None:
    asked = ("recommend", "--machine", "aarch64", "--vllm", "0.13")
    ended = matrix(here, *asked, "--driver", "470")
    assert ended.returncode == 1
    assert ended.stdout.startswith(
        "no pair fits: vLLM 0.13.0: its torch, for CUDA 12.8, needs driver 525.60.13 or newer"
    )
    assert "--torch-backend=cu128" in matrix(here, *asked, "--driver", "535").stdout


def test_a_gpu_that_nothing_here_knows_is_named_as_such(here: Path) -> None:
    text = " ".join(matrix(here, "recommend", "--gpu", "sm_200").stdout.split())
    assert "GPU of a compute capability that no GPU and no CUDA has that is known here" in text


def test_releases_that_want_the_same_glibc_are_one_line(here: Path) -> None:
    lines = matrix(here, "recommend", "--glibc", "2.17").stdout.splitlines()
    assert lines[-1] == "  vLLM 0.9.0 to 0.11.2: its torch is for glibc 2.28 or newer, not 2.17"


def test_which_driver_runs_the_code_and_which_compiles_ptx(here: Path) -> None:
    asked = ("recommend", "--torch", "2.15.0", "--vllm", "0.32.0")
    text = " ".join(matrix(here, *asked).stdout.split())
    ptx = "(any of CUDA 13; for PTX 595.45.04, that of CUDA 13.2)"
    assert f"torch 2.15.0 CUDA 13.2, driver 580.65.06 or newer {ptx}" in text
    assert "vLLM 0.32.0 CUDA 13.0, driver 580.65.06 or newer, glibc" in text
    own = " ".join(matrix(here, *asked, "--gpu", "h200").stdout.split())
    assert "driver 580.65.06 or newer (any of CUDA 13), glibc" in own
    row = matrix(here, "wheels", "--torch", "2.15.0").stdout.splitlines()[1]
    assert row.split()[2:5] == ["13.2", ">=580.65.06", ">=595.45.04"]
    (wheel,) = json.loads(matrix(here, "wheels", "--torch", "2.15.0", "--json").stdout)["wheels"]
    assert (wheel["driver"], wheel["driver_for_ptx"]) == ("580.65.06", "595.45.04")


def test_the_tag_of_a_wheel_that_nobody_read_says_nothing_of_its_libraries(here: Path) -> None:
    ended = matrix(here, "recommend", "--gpu", "v100", "--glibc", "2.28")
    text = " ".join(ended.stdout.split())
    assert "glibc 2.5 or newer by its tag (glibc of its libraries: not read)" in text


@pytest.mark.parametrize("text", ["none", "cpu", "CPU"])
def test_a_machine_without_a_gpu_gets_an_answer(here: Path, text: str) -> None:
    ended = matrix(here, "recommend", "--gpu", text)
    assert ended.returncode == 1 and not ended.stderr
    first, tests, own, page = ended.stdout.splitlines()
    assert first == "no pair fits: these wheels of vLLM are for CUDA, and need a GPU"
    assert "tests alone" in tests and "not in this matrix" in own
    assert page.strip().startswith("https://docs.vllm.ai/")
    found = valid("recommend", matrix(here, "recommend", "--gpu", text, "--json").stdout)
    assert found["choice"] is None and found["asked"]["without_gpu"]


def test_the_processor_that_a_gpu_comes_with_is_assumed_and_named(here: Path) -> None:
    first = " ".join(matrix(here, "recommend", "--gpu", "gh200").stdout.split("\n\n")[0].split())
    assert "wheels for aarch64, with which a gh200 comes (--machine)" in first
    other = matrix(here, "recommend", "--gpu", "gh200", "--machine", "x86_64").stdout
    assert "with which a" not in other
    asked = valid("recommend", matrix(here, "recommend", "--gpu", "h200", "--json").stdout)["asked"]
    assert (asked["machine"], asked["machine_assumed"]) == ("x86_64", False)


def test_seconds_of_another_gpu_name_it_and_what_is_not_known_on_this_one(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "cuda"
    folder.mkdir(parents=True)
    shutil.copy(RESULTS / "cuda" / "py312-torch214-vllm033.json", folder)
    asked = ("recommend", "--model", "deepseek_v3.2", "--vllm", "0.33.0", "--gpu")
    text = " ".join(matrix(tmp_path, *asked, "a100").stdout.split())
    assert "model_startup[deepseek_v3.2] (on NVIDIA H200): cold" in text
    assert (
        "not known whether model_startup[deepseek_v3.2] starts on this GPU without DeepSelect, "
    ) in text
    same = matrix(tmp_path, *asked, "h200").stdout
    assert "(on NVIDIA H200)" not in same and "whether model" not in same
    found = valid("recommend", matrix(tmp_path, *asked, "a100", "--json").stdout)
    assert "FlashMLA" in found["choice"]["not_known_without"]


def test_upgrade_begins_with_its_verdict_and_explains_what_it_adds(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "cuda"
    folder.mkdir(parents=True)
    shutil.copy(RESULTS / "cuda" / "py312-torch214-vllm033.json", folder)
    text = matrix(tmp_path, "upgrade", "--from", "0.24", "--to", "0.33.0").stdout
    assert text.startswith("yes, in a new environment: vLLM 0.33.0 with torch 2.14.0 ran on NVIDIA")
    assert "cuda-python>=13: keeps cuda-bindings and cuda-python, which share files" in text
