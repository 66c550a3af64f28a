"""What varies in failures of one kind: paths, caches, versions, types, tools, demands."""

import re

import pytest

from matrix.record.signature import reason, signature

FRAME = 'Traceback (most recent call last):\n  File "{}", line 3, in run\n'


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "Failed to import from vllm._C with ImportError('/a/_C.abi3.so: undefined symbol: x')",
            "ImportError: _C.abi3.so: undefined symbol: x",
        ),
        (
            'cannot load: OSError("/lib64/libc.so.6: version `GLIBC_2.32\' not found")',
            "OSError: libc.so.6: version `GLIBC_2.32' not found",
        ),
        (
            "OSError: '/models/my model does not appear to have a file named config.json'",
            "OSError: '<path> model does not appear to have a file named config.json'",
        ),
        ("OSError: no '/srv/my models/config.json'", "OSError: no '<path>/config.json'"),
        ("OSError: no '/srv/my models/x7'", "OSError: no '<path>'"),
        (
            "a load failure from <tmp>/matrix-run-a97lem_0/matrix-cache-7bf73j97/vllm/rank_0/model",
            "a load failure from <tmp>/<tmp>/<tmp>/vllm/rank_0/model",
        ),
        (
            "RuntimeError: '/bin/sh: 1: nvcc: not found'",
            "RuntimeError: '<path>: 1: nvcc: not found'",
        ),
        (
            "ImportError('/my env/a b/_C.abi3.so: undefined symbol: x')",
            "ImportError: _C.abi3.so: undefined symbol: x",
        ),
        (
            "ImportError: /my env/torch/lib/libtorch.so.2: version `X_2' not found",
            "ImportError: libtorch.so.2: version `X_2' not found",
        ),
        (
            "ImportError: /a/b.py does not load /my env/_C.so: undefined symbol: x",
            "ImportError: <path>/b.py does not load _C.so: undefined symbol: x",
        ),
        (
            "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 5.1",
            "Failed to initialize NVML: Driver/library version mismatch",
        ),
    ],
)
def test_text_behind_a_path_is_kept(text: str, wanted: str) -> None:
    assert signature(text) == wanted
    assert signature(wanted) == wanted


@pytest.mark.parametrize(
    "file",
    [
        "/home/user/.cache/vllm/torch_compile_cache/a1b2c3d4e5/rank_0_0/inductor_cache/xe/cxe.py",
        "/data/cache/vllm/torch_compile_cache/a1b2c3d4e5/rank_0_0/backbone/computation_graph.py",
        "/home/user/.cache/vllm/torch_aot_compile/0123456789abcdef/inductor_cache/qc/x.py",
        "/tmp/torchinductor_joe/xe/cxe4kqv2nq7m3f6w5u4t3s2r7q6p5o4n3m2l7k6j5i4h3g2f7e6d.py",
        "/home/user/.triton/cache/0123456789abcdef/kernel.py",
        "/scratch/triton/cache/0123456789abcdef/kernel.py",
        "/home/user/.cache/flashinfer/0.6.14/90a/cached_ops/sampling/run.py",
        "/home/user/.cache/vllm/deep_gemm/cache/kernel.sm90/run.py",
        "/home/user/.cache/tvm-ffi/torch/run.py",
    ],
)
def test_a_generated_file_is_no_place(file: str) -> None:
    outer = '  File "/x/site-packages/torch/_inductor/output_code.py", line 6, in __call__\n'
    text = FRAME.format("/x/site-packages/vllm/a.py") + outer
    text += f'  File "{file}", line 7, in call\nAssertionError: stride'
    assert signature(text) == "AssertionError: stride @ torch/_inductor/output_code.py:__call__"


@pytest.mark.parametrize(
    "file",
    [
        "/home/user/.cache/uv/archive-v0/x7/lib/python3.12/site-packages/vllm/a.py",
        "/mnt/cache/src/vllm/vllm/a.py",
    ],
)
def test_a_package_below_a_cache_is_a_place(file: str) -> None:
    assert signature(f"{FRAME.format(file)}ValueError: x") == "ValueError: x @ vllm/a.py:run"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("RuntimeError: CUDA error: bad", "torch.AcceleratorError: CUDA error: bad"),
        ("RuntimeError: HIP error: bad", "AcceleratorError: HIP error: bad"),
        ("RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB.",
         "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB."),
        ("RuntimeError: NCCL error in: /a/NCCLUtils.cpp:93, unhandled",
         "torch.distributed.DistBackendError: NCCL error in: /b/NCCLUtils.cpp:77, unhandled"),
        (("RuntimeError: Internal Triton PTX codegen error: \n"
          "ptxas fatal   : Value 'sm_9' is not defined"),
         ("triton.runtime.errors.PTXASError: PTXAS error: Internal Triton PTX codegen error\n"
          "`ptxas` stderr:\nptxas fatal   : Value 'sm_9' is not defined")),
        ("RuntimeError: driver too old (found version 12040)",
         "RuntimeError: driver too old (found version 13000)"),
        ("RuntimeError: NVML library version: 550.107",
         "RuntimeError: NVML library version: 570.86.10"),
        ("RuntimeError: needs a newer NVIDIA driver version 535.54.03",
         "RuntimeError: needs a newer NVIDIA driver version 570.86"),
        ("RuntimeError: The detected CUDA version (12.4) mismatches",
         "RuntimeError: The detected CUDA version (13.0) mismatches"),
        ("ValueError: Minimum capability: 89. Current capability: 75.",
         "ValueError: Minimum capability: 89. Current capability: 80."),
        ("ValueError: Your Tesla T4 GPU has compute capability 7.5.",
         "ValueError: Your NVIDIA GeForce RTX 2080 Ti GPU has compute capability 12.0."),
        ("PTXASError: codegen error\nptxas /tmp/tmpqwertyui.ptx, line 5; error : Feature 'x'",
         "PTXASError: codegen error\nptxas /tmp/tmp1_rty4i9.ptx, line 77; error : Feature 'x'"),
        ("DistBackendError: WorkNCCL(SeqNum=1, Timeout(ms)=600000) ran for 600012 milliseconds",
         "DistBackendError: WorkNCCL(SeqNum=7, Timeout(ms)=300000) ran for 300998 milliseconds"),
        ("NameError: name 's77' is not defined", "NameError: name 's4' is not defined"),
        ("2026/11/30 07:53:31 KeyError: 'x'", " 0: KeyError: 'x'"),
        ("(pid=gcs_server) KeyError: 'x'", "(raylet) KeyError: 'x'"),
        (FRAME.format("/x/vllm/a.py") + "KeyError: 'x'",
         FRAME.format("/my env/b c/vllm/a.py") + "KeyError: 'x'"),
        ("DistBackendError: NCCL error in: /a/NCCLUtils.hpp:268, bad, NCCL version 2.21.5",
         "DistBackendError: NCCL error in: /b/NCCLUtils.cpp:77, bad, NCCL version 2.27.5"),
        ("TorchRuntimeError: Failed running call_function f(*(FakeTensor(...),), **{}):\nbad [2]",
         ("TorchRuntimeError: Dynamo failed to run FX node with fake tensors: call_function f(*(), "
          "**{}): got RuntimeError('bad [2]')")),
        ("ERROR: Package 'a' requires a different Python: 3.10.2 not in '>=3.11'",
         "ERROR: Package 'a' requires a different Python: 3.9.18 not in '>=3.11'"),
        ("RuntimeError: failed in Worker_TP0_EP0", "RuntimeError: failed in Worker_TP3_EP3"),
        ("RuntimeError: x (pid=7, ip=10.0.0.9, actor_id=0123456789ab)",
         "RuntimeError: x (pid=9, ip=10.0.21.5, actor_id=ba9876543210)"),
    ],
)  # fmt: skip
def test_another_release_or_machine_is_the_same_failure(one: str, other: str) -> None:
    assert signature(one) == signature(other)
    assert signature(signature(one)) == signature(one)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("nvcc fatal   : Unsupported gpu architecture 'compute_120a'",
         "nvcc fatal : Unsupported gpu architecture 'compute_120a'"),
        ('/x/a.cuh(120): error: identifier "f" is undefined', 'error: identifier "f" is undefined'),
        ('/x/a.cuh(1): catastrophic error: cannot open source file "x.h"',
         'catastrophic error: cannot open source file "x.h"'),
        ("/x/a.cpp:1:29: fatal error: omp.h: No such file", "fatal error: omp.h: No such file"),
        ("/usr/bin/ld: cannot find -lcuda: No such file or directory", "ld: cannot find -lcuda"),
        ("/bin/sh: 1: /usr/local/cuda/bin/nvcc: not found", "nvcc: not found"),
        ("ptxas /tmp/tmpab12cd34.ptx, line 7; error   : Feature 'x' requires .target sm_90",
         "ptxas <path>, line <line>; error : Feature 'x' requires .target sm_90"),
        ("LLVM ERROR: Cannot select: x", "LLVM ERROR: Cannot select: x"),
    ],
)  # fmt: skip
def test_what_a_build_tool_said_is_the_cause(said: str, wanted: str) -> None:
    ninja = (
        f"RuntimeError: Ninja build failed. Ninja output:\n[1/9] nvcc -o x.o\n{said}\nninja: stop"
    )
    command = (
        "subprocess.CalledProcessError: Command '['ninja', '-v']' returned non-zero exit status 1."
    )
    extension = "RuntimeError: Error building extension 'x'"
    for text in (ninja, f"{said}\n{command}", f"{extension}: [1/9] nvcc -o x.o\n{said}"):
        assert signature(text) == wanted
    command = "subprocess.CalledProcessError: Command '['/usr/bin/gcc-11', '/tmp/x/main.c', '-O3']'"
    trace = FRAME.format("/a/triton/runtime/build.py")
    above = f"{said}\n{trace}{command} returned non-zero exit status 1."
    assert signature(above) == (
        f"CalledProcessError: Command 'gcc' returned non-zero exit status 1: {wanted}"
        " @ triton/runtime/build.py:run"
    )


def test_a_line_of_a_log_above_a_build_is_not_its_cause() -> None:
    text = "http error: 404\nRuntimeError: Ninja build failed"
    assert signature(text) == "RuntimeError: Ninja build failed"


PIP = """\
ERROR: Cannot install {} because these package versions have conflicting dependencies.

The conflict is caused by:
{}

ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/en/latest/topics/
"""


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        (("b 2 depends on c<3", "a 1 depends on c==3"), "a 1 needs c==3, and b 2 needs c<3"),
        (("b 2 depends on c!=2.5, <3 and >=2", "a 1 depends on c==3"),
         "a 1 needs c==3, and b 2 needs c!=2.5,>=2,<3"),
        (("The user requested c==2", "a 1 depends on c==3"),
         "a 1 needs c==3, and c==2 was asked for"),
        (("The user requested (constraint) c==2", "a 1 depends on d>1", "a 1 depends on c>=3"),
         "a 1 needs c>=3, and c==2 was asked for"),
        (("a[x] 1 depends on c[y]==3; extra == 'x'", "b 2 depends on c~=2.1"),
         "a 1 needs c==3, and b 2 needs c~=2.1"),
        (("a 1 depends on c==3", "a 0.9 depends on c==2", "b 2 depends on C_==3"),
         "ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/en/latest/topics/"),
        (("a 1 depends on c==2.0", "b 2 depends on c==2.0+cu117"),
         "a 1 needs c==2.0, and b 2 needs c==2.0+cu117"),
    ],
)  # fmt: skip
def test_why_pip_finds_no_set(facts: tuple[str, ...], wanted: str) -> None:
    lines = "\n".join(f"    {fact}" for fact in facts)
    assert signature(PIP.format("a==1 and b==2", lines)) == wanted
    assert reason(PIP.format("a==1 and b==2", lines)) == wanted
    other = "\n".join(f"    {fact}" for fact in reversed(facts))
    if "extra" not in lines and "0.9" not in lines:
        assert signature(PIP.format("b==2 and a==1", other)) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("vllm 0.18.0 requires torch==2.10.0, but you have torch 2.9.0 which is incompatible.",
         "vllm 0.18.0 needs torch==2.10.0, and torch 2.9.0 is installed"),
        ("example 0.4.0 requires ml-dtypes, which is not installed.",
         "example 0.4.0 needs ml-dtypes, which is not installed"),
        (("error: No solution found when resolving dependencies\n"
          "  cause: Because b==2 depends on c<3 and a==1 depends on\n"
          "         c==3, we can conclude that a==1 cannot be used.\nhint: x"),
         "a 1 needs c==3, and b 2 needs c<3"),
        (("  × No solution found when resolving dependencies:\n"
          "  ╰─▶ Because a==1 depends on c>=2,<3 and b==2 depends on c==3, we can conclude x."),
         "a 1 needs c>=2,<3, and b 2 needs c==3"),
        (PIP.format("a==1 and b==2", "    a 1 depends on c<3,>=2\n    b 2 depends on c==3"),
         "a 1 needs c>=2,<3, and b 2 needs c==3"),
        (("  × No solution found when resolving dependencies:\n"
          "  ╰─▶ Because there is no version of c==3 and a==1 depends on c==3, we can conclude x."),
         "No matching distribution found for c==3"),
        (("  × No solution found when resolving dependencies:\n"
          "  ╰─▶ Because only c<=2 is available and you require c>=3, we can conclude x."),
         "No matching distribution found for c>=3"),
        (("  × No solution found when resolving dependencies:\n"
          "  ╰─▶ Because c was not found in the package registry and x."),
         "No matching distribution found for c"),
        (("  × No solution found when resolving dependencies:\n"
          "  ╰─▶ Because only c<=2 is available and x."),
         "Because only c<=2 is available and x."),
        (("  × No solution found when resolving dependencies:\n"
          "  ╰─▶ Because you require c==2 and a==1 depends on c==3, we can conclude that x."),
         "a 1 needs c==3, and c==2 was asked for"),
        (("  × No solution found when resolving dependencies:\n"
          "  ╰─▶ Because the current Python version (3.10.2) does not satisfy Python>=3.11 and x."),
         "Because the current Python version (<version>) does not satisfy Python>=3.11 and x."),
        ("error: `c` has no wheel for this platform\n\nhint: You're on `manylinux_2_27_x86_64`",
         "error: `c` has no wheel for this platform"),
    ],
)  # fmt: skip
def test_other_conflicts(text: str, wanted: str) -> None:
    assert signature(text) == wanted
    assert signature(wanted) == wanted


MISSED = "AttributeError: '_OpNamespace' '{}' object has no attribute 'rms_norm'"
WARNED = (
    "WARNING 06-13 11:42:20 [x.py:1] Failed to import from vllm._C with ImportError('x.so: bad')"
)


@pytest.mark.parametrize(
    ("namespace", "wanted"),
    [
        ("_C", "ImportError: x.so: bad"),
        ("_C_cache_ops", "ImportError: x.so: bad"),
        ("_moe_C", "ImportError: x.so: bad"),
        ("vllm", MISSED.format("vllm")),
    ],
)
def test_an_operator_is_missed_where_its_extension_did_not_load(
    namespace: str, wanted: str
) -> None:
    assert signature(f"{WARNED}\n{MISSED.format(namespace)}") == wanted
    assert signature(MISSED.format(namespace)) == MISSED.format(namespace)


def test_what_another_process_logs_ends_no_traceback() -> None:
    log = "(Worker pid=7) INFO 11-28 12:00:00 [x.py:1] Loading: weights\n"
    assert signature(f"{FRAME.format('/vllm/a.py')}{log}ValueError: x") == (
        "ValueError: x @ vllm/a.py:run"
    )


@pytest.mark.parametrize(
    "consequence",
    [
        "Exception: Call to collective_rpc method failed: 'x'",
        "torch.distributed.DistBackendError: [1] is setting up NCCL communicator and retrieving x",
        "RuntimeError: [/a/gloo/pair.cc:5] Connection closed by peer [127.0.0.1]:4711",
    ],
)
def test_what_another_process_sees_of_a_failure_does_not_count(consequence: str) -> None:
    text = f"{FRAME.format('/vllm/a.py')}KeyError: 'x'\n"
    assert signature(text + consequence) == "KeyError: 'x' @ vllm/a.py:run"


def test_other_defects_have_other_signatures() -> None:
    texts = [
        "Failed to import from vllm._C with ImportError('/a/_C.so: undefined symbol: x')",
        "Failed to import from vllm._C with ImportError('/a/_C.so: undefined symbol: y')",
        "ImportError: libcudart.so.12: cannot open shared object file: No such file or directory",
        "ImportError: libcudart.so.13: cannot open shared object file: No such file or directory",
        "RuntimeError: Ninja build failed.\n/x/a.cu(1): error: b",
        "RuntimeError: Ninja build failed.\n/x/a.cu(1): error: c",
        "PTXASError: PTXAS error: x codegen error\nptxas fatal   : Value 'sm_110a' is not defined",
        "PTXASError: PTXAS error: x codegen error\nptxas fatal   : Value 'sm_121a' is not defined",
        "RuntimeError: Worker failed with error 'KeyError: 1', please check the stack trace above",
        "RuntimeError: Worker failed with error 'KeyError: 2', please check the stack trace above",
    ]
    assert len({signature(text) for text in texts}) == len(texts)
    assert not any(re.search(r"/a/|pid=\d", signature(text)) for text in texts)


def test_a_command_has_the_name_of_its_program() -> None:
    command = "Command '['/opt/joe/gcc-11', '/tmp/x/main.c', '-L/home/joe/lib']'"
    cause = "/tmp/x/main.c:2:10: fatal error: stddef.h: No such file"
    for raised in ("subprocess.", "torch._inductor.exc.InductorError: "):
        text = f"{cause}\n{raised}CalledProcessError: {command} returned non-zero exit status 1."
        assert signature(text) == (
            "CalledProcessError: Command 'gcc' returned non-zero exit status 1: fatal error: "
            "stddef.h: No such file"
        )
        assert "joe" not in reason(text)
    text = "RuntimeError: g++ -I/home/joe/include -L/home/joe/lib failed"
    assert "joe" not in signature(text) + reason(text)
