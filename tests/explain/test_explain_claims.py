"""What an answer claims is what the data support: no command and no cause beyond them."""

import pytest

from explained import apart, commands, explained, lines, only
from matrix.explain.model import FaultKind, Meaning
from matrix.report.explain import five

LOGGER = "_ZN3c1013MessageLoggerC1EPKciib"
NEWEST = apart("0.33.0", "2.14.0", "cuda-python>=13")
CUDA_12 = apart("0.19.1", "2.10.0")
COUNTER = "num_compiled_artifacts_saved"
ASSERTED = f"AssertionError: {COUNTER} not as expected, before it is"


@pytest.mark.parametrize(
    ("file", "first"),
    [
        ("foo", None),
        ("x.so", None),
        ("/x/site-packages/torch/lib/libtorch_cpu.so", None),
        ("/x/site-packages/vllm/_C.abi3.so", NEWEST),
        ("_C.abi3.so", NEWEST),
    ],
)
def test_a_name_that_nothing_exports_is_not_called_torchs(file: str, first: str | None) -> None:
    text = f"{file}: undefined symbol: _ZN3c10evil"
    assert commands(only(text))[:1] == ([first] if first else [])
    name = file.rpartition("/")[2] if ".so" in file else "some file"
    assert lines(text)["means"].startswith(
        f"{name} needs _ZN3c10evil, which no torch that was read here exports"
    )


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("sm_90", "sm_90 is a GPU that CUDA knows since 11.8"),
        ("sm_70", "sm_70 is a GPU that CUDA knows since 11.0 or earlier and up to before 13.0"),
        ("sm_80", "sm_80 is a GPU that CUDA knows since 11.0 or earlier"),
        ("sm_199", "sm_199 is a GPU that is unknown here"),
        (
            "libcudart.so.13",
            "libcudart.so.13 is a library that builds of torch for CUDA 13.0 and 13.2 bring",
        ),
        ("libnccl.so.2", "libnccl.so.2 is a library of the packages that torch requires"),
        ("libtorch_cuda.so", "libtorch_cuda.so is a library of torch's own"),
        ("libcuda.so.1", "libcuda.so.1 is the NVIDIA driver's"),
        ("GLIBC_2.34", "GLIBC_2.34 is a version of a library of the system"),
        ("_PyGen_Send", "_PyGen_Send is Python's"),
        ("ncclCommRegister", "ncclCommRegister is of libnccl.so.2"),
        (
            "_ZN3c10evil",
            "_ZN3c10evil is a symbol that no torch that was read here exports",
        ),
        (
            LOGGER,
            (
                "c10::MessageLogger::MessageLogger(char const*, int, int, bool) is a symbol that"
                " libraries of torch export"
            ),
        ),
        (
            "_ZN5torch3jit17parseSchemaOrNameERKSsb",
            "has C++ strings of before GCC 5, as torch up to 2.6 had them",
        ),
    ],
)
def test_what_a_text_only_names_gets_facts_alone(name: str, means: str) -> None:
    """Nobody described an installation, so nothing is said of one."""
    shown = lines(name)["means"]
    assert shown.partition(";")[0].endswith(means)
    assert not any(word in shown for word in ("installed", "loaded", "the system has"))


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("evil-pkg 1.0 requires torch==2.10.0, but you have torch 2.11.0", None),
        ("vllm 9.9.9 requires torch==2.10.0, but you have torch 2.11.0", None),
        ("vllm 0.19.1 requires torch==9.9.9, but you have torch 2.11.0", None),
        ("vllm 0.19.1 requires evil-pkg==1.0, but you have evil-pkg 2.0", None),
        ("torchvision 9.9.9 requires torch==2.10.0, but you have torch 2.11.0", None),
        ("vllm 0.19.1 requires torch==2.10.0, but you have torch 2.11.0", CUDA_12),
        (
            "torchvision 0.25.0 requires torch==2.10.0, but you have torch 2.11.0",
            "uv pip install torchvision==0.25.0 torch==2.10.0",
        ),
        (
            (
                "vllm 0.33.0 requires flashinfer-python==0.7.2.post1, but you have"
                " flashinfer-python 0.6.1"
            ),
            f"{NEWEST} flashinfer-python==0.7.2.post1",
        ),
    ],
)
def test_only_releases_that_the_catalog_has_become_a_command(text: str, first: str | None) -> None:
    """A text may name a package of anybody's."""
    answer = only(f"{text} which is incompatible.")
    assert not any("evil" in command or "9.9.9" in command for command in commands(answer))
    to_do = five(answer)[-1][11:]
    if first is None:
        who, needs = text.partition(",")[0].split(" requires ")
        assert to_do.startswith(f"fulfil what the text names: {who} needs {needs}")
    else:
        assert to_do.partition("; or ")[0] == first


OLD = "_ZN5torch3jit17parseSchemaOrNameERKSsb"
OWN = "_Z24silu_and_mul_nvfp4_quantRN2at6TensorES1_S1_S1_"


@pytest.mark.parametrize("symbol", [OLD, OWN])
@pytest.mark.parametrize(
    ("where", "to_do"),
    [
        ("", "no fix is known"),
        ("ImportError: ", "no fix is known"),
        ("/x/site-packages/vllm/_C.abi3.so: ", NEWEST),
        ("/x/vllm/_C.abi3.so: ", NEWEST),
        (
            "/x/site-packages/evil_pkg/a.so: ",
            "build 'evil_pkg' again from its sources, with the torch that is installed",
        ),
        (
            "/x/evil_pkg/a.so: ",
            "build the package of 'a.so' again from its sources, with the torch that is installed",
        ),
        (
            "/x/site-packages/xformers/_C.so: ",
            (
                "uv pip install --no-build-isolation --no-binary xformers --reinstall-package"
                " xformers xformers builds it for the torch that is installed"
            ),
        ),
    ],
)
def test_only_where_the_file_is_known_its_package_is_to_be_installed(
    symbol: str, where: str, to_do: str
) -> None:
    assert lines(f"{where}undefined symbol: {symbol}")["to do"] == to_do


def test_only_a_known_package_of_flashinfer_is_to_be_removed() -> None:
    text = "{} version (0.6.13) does not match flashinfer version (0.6.14)."
    for package in ("flashinfer-cubin", "flashinfer-jit-cache"):
        assert any(package in command for command in commands(only(text.format(package))))
    assert not any("evil" in command for command in commands(only(text.format("flashinfer-evil"))))


def test_a_library_of_cuda_may_be_another_one_or_not_be_loaded() -> None:
    found = lines("libtorch_cuda.so: undefined symbol: ncclCommWindowRegister")
    assert found["means"] == (
        "ncclCommWindowRegister is of libnccl.so.2, and another one than torch brings is loaded"
        " first, or none is"
    )
    assert found["to do"] == (
        "unset LD_LIBRARY_PATH, or remove the other libnccl.so.2 from it; `uv pip check` shows"
        " whether an installed one is another than torch requires; where `uv pip list` has"
        " nvidia-nccl-cu12 and nvidia-nccl-cu13, uninstall both, and install the one that torch"
        " requires"
    )


PTX = "CUDA error: the provided PTX was compiled with an unsupported toolchain."


@pytest.mark.parametrize(
    ("named", "means", "releases", "to_do"),
    [
        ("", "the driver compiles", "not known", None),
        (
            "torch==2.8.0\nvllm==0.11.0",
            (
                "the driver compiles: what is installed is of CUDA 12.8, which takes driver 570.26"
                " or newer"
            ),
            "not known",
            None,
        ),
        (
            "vLLM Version : 0.33.0\nNvidia driver version : 575.57.08",
            (
                "the driver, 575.57.08, compiles: what is installed is of CUDA 13.0, which takes"
                " driver 580.65.06 or newer"
            ),
            (
                "torch 2.7.0 to 2.10.0 and vLLM 0.9.0 to 0.19.1 are built for a CUDA of that driver"
                " or an older one"
            ),
            f"{CUDA_12}; or install driver 580.65.06 or newer",
        ),
        (
            "Nvidia driver version : 450.10",
            "the driver compiles",
            "not known",
            None,
        ),
    ],
)
def test_ptx_takes_the_driver_of_its_own_cuda(
    named: str, means: str, releases: str, to_do: str | None
) -> None:
    found = lines(f"{PTX}\n{named}")
    assert found["means"] == f"the code for this GPU is PTX of a newer CUDA than {means}"
    assert found["releases"] == releases
    if to_do is None:
        assert found["to do"].startswith("nvidia-smi --query-gpu=driver_version --format=csv names")
    else:
        assert found["to do"] == to_do
    both = f"{PTX}\nCUDA driver version is insufficient for CUDA runtime version"
    assert len(explained(both)) == 2


@pytest.mark.parametrize(
    ("error", "machine", "first"),
    [
        (
            "libc.so.6: version `GLIBC_2.34' not found (required by /x/vllm/_C.abi3.so)",
            "Nvidia driver version : 575.57.08",
            CUDA_12,
        ),
        (
            "libc.so.6: version `GLIBC_2.34' not found (required by /x/vllm/_C.abi3.so)",
            "Nvidia driver version : 580.95.05",
            NEWEST,
        ),
        (
            "/x/vllm/_C.abi3.so: undefined symbol: _ZN5torch3jit17parseSchemaOrNameERKSsb",
            "GPU 0: Tesla V100-SXM2-32GB",
            CUDA_12,
        ),
        (
            "/x/vllm/_C.abi3.so: undefined symbol: _ZN5torch3jit17parseSchemaOrNameERKSsb",
            "GPU 0: NVIDIA H100 80GB HBM3\nDriver Version: 535.183.01",
            CUDA_12,
        ),
        (
            "/x/vllm/_C.abi3.so: undefined symbol: _ZN5torch3jit17parseSchemaOrNameERKSsb",
            "GPU 0: NVIDIA H100 80GB HBM3\nDriver Version: 418.40",
            None,
        ),
        (
            "CUDA error: no kernel image is available for execution on the device",
            "GPU 0: NVIDIA GeForce RTX 5090\nDriver Version: 570.86",
            CUDA_12,
        ),
    ],
)
def test_what_is_to_be_installed_runs_on_the_machine_of_the_text(
    error: str, machine: str, first: str | None
) -> None:
    found = commands(only(f"{machine}\nImportError: {error}"))
    assert found[:1] == ([first] if first else [])


def test_each_conflict_of_one_package_has_its_own_signature() -> None:
    left = "xformers 0.0.22", "vllm 0.2.1.post1", "ai2-olmo 0.3.0"
    line = "{} requires torch==2.0.1, but you have torch 2.3.0 which is incompatible.\n"
    answers = explained("".join(line.format(who) for who in left))
    assert [answer.fault.signature for answer in answers] == [
        f"{who} needs torch==2.0.1, and torch 2.3.0 is installed" for who in left
    ]


def test_what_was_asked_for_gives_way_to_what_a_package_needs() -> None:
    text = "vllm 0.5.4 needs torch==2.4.0, and torch==2.1.1 was asked for"
    assert lines(text)["to do"] == "fulfil what the text names: vllm 0.5.4 needs torch==2.4.0"
    both = "a 1 needs torch==2.4.0, and b 2 needs torch==2.1.1"
    assert lines(both)["to do"] == "no fix is known"


@pytest.mark.parametrize("after", ["", ")\n", " (required by\n", "\nother (required by /x/y.so)"])
def test_a_version_of_glibc_may_stand_without_the_file(after: str) -> None:
    answer = only(f"/lib64/libc.so.6: version `GLIBC_2.34' not found{after}")
    assert (answer.fault.kind, answer.fault.subject) == (FaultKind.OLD_LIBRARY, "GLIBC_2.34")
    assert answer.fault.file is None


def test_the_file_that_needs_a_version_may_stand_in_the_next_line() -> None:
    text = "libstdc++.so.6: version `GLIBCXX_3.4.30' not found\n    (required by /x/y.so)\n"
    assert only(text).fault.file == "y.so"


def test_triton_has_a_ptxas_of_its_own() -> None:
    text = "ptxas fatal   : Value '{}' is not defined for option 'gpu-name'"
    path = "set TRITON_PTXAS_PATH to the ptxas of a CUDA 12.9 or newer"
    assert lines(text.format("sm_121a"))["to do"] == f"{NEWEST}; or {path}"
    assert lines(text.format("sm_999"))["to do"] == "no fix is known"


@pytest.mark.parametrize(
    ("module", "releases", "first"),
    [
        (
            "vllm._C",
            "vLLM 0.14.0 to 0.23.0 have it",
            apart("0.23.0", "2.11.0"),
        ),
        ("vllm._qutlass_C", "vLLM 0.24.0 to 0.33.0 have it", NEWEST),
        ("vllm.vllm_flash_attn._vllm_fa2_C", "every vLLM from 0.14.0 to 0.33.0 has it", NEWEST),
    ],
)
def test_a_module_is_to_be_had_of_a_release_whose_wheel_has_it(
    module: str, releases: str, first: str
) -> None:
    for mark in "'\"":
        text = f"ModuleNotFoundError: No module named {mark}{module}{mark}"
        answer, found = only(text), lines(text)
        assert (answer.fault.kind, answer.fault.subject) == (FaultKind.MISSING_MODULE, module)
        assert found["releases"] == releases
        outside = "start Python in a folder that does not contain vLLM's sources"
        assert found["to do"] == f"{first}; or {outside}"
        assert found["means"].startswith(f"{module} is a compiled module of vLLM's wheel: what is ")
    kept = only(f"{text}\nvLLM Version : 0.19.1")
    if module == "vllm._C":
        assert commands(kept)[0] == CUDA_12


@pytest.mark.parametrize(
    "module",
    ["vllm._custom_ops", "vllm._ipex_ops", "vllm.v1.attention.backends._foo", "vllm._rocm_C"],
)
def test_a_module_that_no_wheel_has_is_not_known_to_be_compiled(module: str) -> None:
    """The names of modules of Python look alike: nothing is claimed of them, nor proposed."""
    text = f"ModuleNotFoundError: No module named '{module}'"
    assert (only(text).fault.kind, only(text).known) == (FaultKind.MISSING_MODULE, False)
    found = lines(text)
    assert found["means"] == f"nothing here knows {module}"
    assert found["releases"] == "not known"
    assert found["to do"] == "no fix is known"


@pytest.mark.parametrize(("begin", "end"), ["`'", "''", "\u2018\u2019"])
@pytest.mark.parametrize(
    "version", ["GLIBC_2.34", "GLIBCXX_3.4.32", "CXXABI_1.3.13", "libcudart.so.12"]
)
@pytest.mark.parametrize("error", ["", "ImportError: /lib64/libc.so.6: "])
def test_a_version_that_is_not_found_is_read_whatever_its_quotes(
    begin: str, end: str, version: str, error: str
) -> None:
    text = f"{error}version {begin}{version}{end} not found (required by /x/vllm/_C.abi3.so)"
    for log in (text, f"INFO starts\n(Worker pid=7) {text}\nINFO ends\nValueError: another\n"):
        fault = explained(log)[0].fault
        assert (fault.kind, fault.subject) == (FaultKind.OLD_LIBRARY, version)
        assert fault.file == "_C.abi3.so"


@pytest.mark.parametrize("name", ["vllm._version", "vllm.x", "vllm", "xvllm._C", "vllm_plugin"])
def test_another_module_is_not_one_of_its_wheel(name: str) -> None:
    answer = only(f"ModuleNotFoundError: No module named '{name}'")
    assert answer.fault.kind is FaultKind.UNKNOWN


def test_a_module_whose_file_does_not_load_is_no_fault_of_its_own() -> None:
    module = "ModuleNotFoundError: No module named 'vllm._C'"
    cause = "libc.so.6: version `GLIBC_2.32' not found (required by /x/vllm/_C.abi3.so)"
    assert [answer.fault.kind for answer in explained(f"{module}\n{cause}")] == [
        FaultKind.OLD_LIBRARY
    ]
    other = cause.replace("_C.abi3", "_moe_C.abi3")
    assert len(explained(f"{module}\n{other}")) == 2


def test_a_local_version_of_a_text_is_held_against_pins_without_it() -> None:
    text = "vllm 0.19.1 {} torch==2.10.0, {} torch 2.11.0{} {}"
    pip = ("requires", "but you have")
    for local in ("+cu128", "+cu130.d20261101"):
        assert lines(text.format(*pip, local, "which is incompatible."))["releases"] == (
            "vLLM 0.20.0 to 0.26.0 pin torch==2.11.0"
        )
        assert lines(text.format("needs", "and", local, "is installed"))["releases"] == (
            "vLLM 0.20.0 to 0.26.0 pin torch==2.11.0"
        )
    asked = "vllm 0.26.0 needs torch==2.11.0, and torch==2.9.1+cpu was asked for"
    assert commands(only(asked))[0] == apart("0.16.0", "2.9.1")


@pytest.mark.parametrize("version", ["GLIBC_2.99", "GLIBCXX_3.4.99"])
def test_what_nothing_needs_is_no_reason_to_install(version: str) -> None:
    for text in (version, f"version `{version}' not found (required by /x/y.so)"):
        assert commands(only(text)) == []
        found = lines(text)
        assert found["to do"] == f"take a system, or a container, that has {version}"
        assert "no vLLM from 0.14.0 to 0.33.0 needs that version" in found["releases"]
        assert "with torch" not in found["releases"]


@pytest.mark.parametrize(
    ("found", "torch", "minor", "driver", "releases"),
    [
        ("13000", "", "13.2", "595.45.04", "torch 2.15.0 and no vLLM from 0.9.0 to 0.33.0"),
        ("13020", "", "", None, "not known"),
        ("13000", "torch==2.15.0", "13.2", "595.45.04", "torch 2.15.0 and no vLLM"),
        ("13000", "torch==2.11.0", "", None, "not known"),
        ("12040", "torch==2.9.0", "12.8", "570.26", "torch 2.8.0 to 2.15.0 and every vLLM"),
    ],
)
def test_a_driver_of_that_major_is_too_old_for_a_newer_minor(
    found: str, torch: str, minor: str, driver: str | None, releases: str
) -> None:
    text = f"{torch}\nThe NVIDIA driver on your system is too old (found version {found})."
    answer, shown = only(text), lines(text)
    assert (answer.operands["minor"], answer.operands.get("driver")) == (minor, driver)
    if driver is None:
        assert shown["means"].endswith("needs a newer CUDA, which is not known here")
        assert shown["to do"].endswith("install a newer NVIDIA driver")
    else:
        itself = f"as CUDA {minor} (driver {driver} is that of CUDA {minor} itself"
        assert itself in shown["means"]
        assert shown["to do"].endswith(f"install driver {driver} or newer")
    assert shown["releases"].startswith(releases)


@pytest.mark.parametrize(
    ("text", "meaning", "has"),
    [
        (f"{COUNTER}: 0\nlater warm: {COUNTER}: 7", Meaning.COMPILED_AGAIN, "7"),
        (f"warm: {COUNTER}: 0\nlater warm: {COUNTER}: 7", Meaning.COMPILED_AGAIN, "7"),
        (f"warm: {COUNTER}: 7\nlater warm: {COUNTER}: 0", Meaning.COMPILED_AGAIN, "7"),
        (f"cold {COUNTER} 9\nwarm {COUNTER} 0", Meaning.LOADED_ALL, "0"),
        (f"cold {COUNTER} 9, warm {COUNTER} 0", Meaning.LOADED_ALL, "0"),
        (
            f"warm {COUNTER} 7\nCompiling model again due to a load failure, reason: x",
            Meaning.NOT_LOADED,
            None,
        ),
        (
            f"Compiling model again due to a load failure, reason: x\nwarm {COUNTER} 7",
            Meaning.NOT_LOADED,
            None,
        ),
        (f"{ASSERTED} 5, after it is 2", Meaning.COMPILED_AGAIN, None),
        (f"{ASSERTED} 5, after it is 2\n{ASSERTED} 0, after it is 3", Meaning.COMPILED_AGAIN, "3"),
    ],
)
def test_what_says_most_of_a_warm_start_counts(
    text: str, meaning: Meaning, has: str | None
) -> None:
    answer = only(text)
    assert (answer.meaning, answer.fault.has) == (meaning, has)
    assert ("artifacts)" in lines(text)["means"]) is (
        meaning is Meaning.COMPILED_AGAIN and bool(has)
    )
    assert "-3" not in lines(text)["means"]


@pytest.mark.parametrize("text", [f"{COUNTER}: 0", f"{COUNTER}: 4", f"cold {COUNTER} 4"])
def test_a_counter_of_no_warm_start_says_nothing_of_one(text: str) -> None:
    answer = only(text)
    assert (answer.meaning, answer.nearest) == (Meaning.UNKNOWN, FaultKind.RECOMPILES)
