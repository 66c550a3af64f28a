"""How torch, vLLM, Python, pytest and the system write failures."""

import re
from collections.abc import Callable, Sequence

LINE_LIMIT = 4096
ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]_P^X][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
MEMBER = re.compile(r"(?P<indent> *)\+(?:-\+)?-{4,} (?P<number>\d+|\.\.\.) -{4,}")
MEMBERS_END = re.compile(r"(?P<indent> *)\+-{20,}")
BAR = re.compile(r"^ *(?:\| ?|\+ (?=Exception Group Traceback))")
RAISED = re.compile(
    r"(?P<module>(?:[A-Za-z_]\w*\.)*)"
    r"(?P<type>(?:[A-Z]\w*)?"
    r"(?:Error|Exception|Exit|Interrupt|Failed|Failure|OutOfResources|Unsupported|Violation))"
    r"(?:(?<=RayTaskError)\(\w+\))?(?:: ?(?P<message>.*))?"
)
# What ends a traceback is an error, whatever its name: triton.runtime.errors.OutOfResources.
ENDS_TRACEBACK = re.compile(
    r"(?P<module>(?:[A-Za-z_]\w*\.)*)(?P<type>[A-Za-z_]\w*)(?:: ?(?P<message>.*))?"
)
TRACEBACK = "Traceback (most recent call last)"
BECAUSE = "The above exception was the direct cause of the following exception:"
MEANWHILE = "During handling of the above exception, another exception occurred:"
ENDED = re.compile(
    r"(?P<how>killed by \S+(?: \(out of memory[^()]*\))?"
    r"|the process exited with .{1,80} before the test ended"
    r"|timed out after \S+(?: s)?)"
    r"(?:; SIGKILL did not end \d+ of its processes)?"
)
DIED = re.compile(
    r"(?P<fatal>Fatal Python error: .*)"
    r"|.*terminate called after throwing an instance of '(?P<thrown>[^']+)'"
    r"|\s*what\(\): *(?P<what>.*)"
    r"|.*?(?P<fault>Segmentation fault|Bus error|Illegal instruction|Aborted|Killed)"
    r"(?: \(core dumped\))?\s*"
)
# Such a name says little without its module: binascii.Error.
BARE = {"Error", "Exception"}
# These say only that something else failed: where that is in the text, it is the better answer.
WRAPPERS = re.compile(
    r"(?i:\b(?:see|check|inspect|look at|refer to|view|examine|read) (?:[^'\":]{0,80}? )?(?:"
    r"root causes?|stack ?traces?|tracebacks?|logs?|output"
    r"|(?:error|log) (?:messages?|output|files?)"
    r"|(?:messages?|errors?|exceptions?|details) above)\b)"
    r"|(?i:\b(?:root cause|stack ?trace|traceback|exceptions?|error messages?|errors?)"
    r" (?:is |are |was )?(?:above|below)\b)"
    r"|(?i:\b(?:errors?|exceptions?)(?: (?:was|were|is))? (?:raised|occurred|thrown|caught)"
    r" in (?:an? |the )?(?:\w+ )?(?:sub|child |worker |background )?process(?:es)?\b)"
    r"|(?i:an exception in a background process|terminated with the following error)"
    r"|(?i:\bprocess(?:es)?\b.{0,60}\b(?:died|exited|terminated)"
    r" (?:unexpectedly|with (?:exit )?code))"
    r"|(?i:\bdied (?:unexpectedly|during initialization)|died because of an error raised in)"
    r"|backend=.* raised:|^\w+ failed during startup|^Worker failed with error|^Executor failed"
    r"|^Call to \w+ method failed|^\[\d+\] is setting up NCCL communicator"
    r"|Connection closed by peer \[|^Background loop (?:has errored already|is stopped)|^cancelled$"
    r"|^Caught \w+ in \w+ worker|^Traceback \(most recent call last\)"
)
WRAPPER_TYPES = re.compile(
    r"ChildFailedError|RayTaskError|(?:Ray)?Actor(?:Died|Unavailable)?Error|(?:Async|MQ)?EngineDeadError"
    r"|EngineGenerateError|Process(?:Raised|Exited)Exception|SubprocException|RemoteError"
    r"|WorkerCrashedError|CancelledError"
)
COMMAND_FAILED = re.compile(r"Command .* (?:returned non-zero exit status|died with <?Signals?\b)")
# A wrapper may quote it, and a log has it as Python's repr.
QUOTED_ERROR = re.compile(
    r"(?P<quote>['\"])(?P<message>(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)(?:: .*?)?)"
    r"(?:(?P=quote)(?!\w)|$)"
)
FAILED_WORKER = re.compile(r"^Worker failed with error '(?P<message>.*?)(?:', please check .*|'?$)")
EMBEDDED = re.compile(
    r"\b(?P<type>[A-Z]\w*(?:Error|Exception))\((?P<quote>['\"])(?P<message>.*)(?P=quote),?\)"
)
# Which operator could not be traced, with its arguments, and what it raised.
FAKE_RUN = re.compile(
    r"Failed running .*:$"
    r"|Dynamo failed to run FX node with fake tensors: .*: got \w+\((?P<quote>['\"])"
    r"(?P<raised>.+)(?P=quote)\)$"
)
# What misses an operator of an extension, and what says why that extension did not load.
NOT_LOADED = re.compile(
    r"'_OpNamespace' '(\w+)' object has no attribute '\w+'"
    r"|operator (\w+)::\w+ does not exist|No such operator (\w+)::"
)
EXTENSION = re.compile(r"_\w*C(?:_\w+)?")
IMPORT_FAILED = re.compile(
    r"(?i:failed|unable|could not|cannot) to (?:import|load) (?:from )?(?P<name>[\w./]+)"
)
# These say what failed only in the lines below them: pydantic's.
INVALID = re.compile(r"\d+ validation errors? for \S+")
INPUT = re.compile(r" \[type=\w+, input_value=.*")
NOT_TELLING = re.compile(
    r"\s*(?:For further information|Traceback|File \"|-{3,}|={3,}|_{3,})|\S+:\d+: "
)
# A message can begin with a line break.
NOT_A_MESSAGE = re.compile(
    r"\s*(?:Traceback|File \"|[-=_*~^]{3,}|--|\"\"\"|Set TORCH|You can suppress"
    r"|from user code:|E  )"
    r"|(?:The above exception|During handling of) .*"
)
MOST_BELOW = 400
# It only adds to the lines above it: uv's hints, and the versions below an error of the driver.
ASIDE = re.compile(r"(?i:\s*(?:hint|help|note|NVML library version):)")

# A quoted text is a path if it has no blanks, or blanks in a folder, or two in its last part; else
# it begins with a path: '/x/_C.so: undefined symbol: y', '/models/x does not have a config.json'.
PATH = re.compile(
    r"(?P<quote>['\"])(?:~|\.{0,2})/(?:[^'\"\s]*|[^'\":\n]* [^'\":\s/]+/[^'\":\n/]*"
    r"|[^'\":\s]*(?: [^'\":\s]+){1,2})(?P=quote)"
    r"|(?:(?<![\w<>./:])|(?<= -[IL]))(?:~|\.{1,2})?/(?:[\w.+@=~%,-]+/+)*[\w.+@=~%-]+/?"
    r"|(?<![\w<>./])(?:[\w.+@=-]+/)+[\w.+@=-]+"
    r"\.(?:pyc?|pyx|pxi|so|c|cc|cpp|cxx|cuh?|h|hpp|hip|ptx|cubin|json|toml|ya?ml|log)\b[\w.]*"
)
LIBRARY = re.compile(r"[^/]+\.so(?:\.\d+)*")
_LOADER = (
    r"(?:undefined symbol: |cannot open shared object|version `|cannot enable executable stack"
    r"|invalid ELF header|file too short|symbol \S+ version )"
)
LIBRARY_FAULT = re.compile(
    rf"(?:ImportError|OSError): (?:/[^:'\"]*/)?[^\s:/]+\.so(?:\.\d+)*: {_LOADER}.*"
)
# What the loader says begins with the library, so that blanks in its folders are of the path.
LIBRARY_FOLDERS = re.compile(
    rf"(?<![\w<>./:])(?:~|\.{{0,2}})/(?:(?! /)[^:'\"\n]){{0,1000}}/"
    rf"(?=[^\s:/]+\.so(?:\.\d+)*: {_LOADER})"
)
# A file that a person named, so that it says which one is missing: config.json, pytorch_model.bin.
NAMED = re.compile(r"(?!tmp[a-z0-9_]{8}\.)[A-Za-z][A-Za-z_-]{0,40}\d?\.[a-z]{1,12}")
# A Python's own advice, which each release words otherwise.
ADVICE = re.compile(
    r"\.? (?:Or did|Did) you (?:mean|forget to import):? ['\"][^'\"]*['\"]"
    r"(?: instead of ['\"][^'\"]*['\"])?\??"
)
_PROGRAM = re.compile(r"(?:[\w.]+-)*?(gcc|g\+\+|c\+\+|clang(?:\+\+)?|python|pypy)[\d.-]*$")


def _command(found: re.Match[str]) -> str:
    """Return the name of a command's program, without the release of a compiler or a Python."""
    program = _PROGRAM.sub(r"\1", found["program"])
    return f"Command '{program}{f' -m {module}' if (module := found['module']) else ''}'"


# The order and the flags of a command, and where its program lies, are a machine's.
COMMAND_PATTERNS: Sequence[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = (
    (
        re.compile(
            r"\bCommand '\[['\"](?:[^'\"]*/)?(?P<program>[^'\"/]+)['\"]"
            r"(?:, ['\"]-m['\"], ['\"](?P<module>[^'\"]+)['\"])?.*?"
            r"(?:\]'(?= returned| died| timed)|$)"
        ),
        _command,
    ),
    (
        re.compile(
            r"\bCommand '(?:[^' ]*/)?(?P<program>[^' /]+)(?: -m (?P<module>[^' ]+))?[^']*?"
            r"'(?= returned| died| timed)"
        ),
        _command,
    ),
)
# What another Python says in other words; the newest one's are kept.
REWORDED: Sequence[tuple[re.Pattern[str], str]] = (
    # torch 2.8 gave these types of their own, Triton 3.3 and torch 2.4 others.
    (re.compile(r"^RuntimeError: (?=(?:CUDA|HIP|XPU) error: )"), "AcceleratorError: "),
    (
        re.compile(r"^RuntimeError: (?=(?:CUDA|HIP|XPU) out of memory\. Tried)"),
        "OutOfMemoryError: ",
    ),
    (re.compile(r"^RuntimeError: (?=NCCL error in: )"), "DistBackendError: "),
    (
        re.compile(r"^RuntimeError: (?=The (?:server|client) socket has (?:failed|timed out))"),
        "DistNetworkError: ",
    ),
    (
        re.compile(r"^RuntimeError: (?=Internal Triton PTX codegen error|`ptxas` failed with)"),
        "PTXASError: PTXAS error: ",
    ),
    (
        re.compile(r"\b(?:local variable (?P<name>'\w+') referenced before assignment)$"),
        r"cannot access local variable \g<name> where it is not associated with a value",
    ),
    (
        re.compile(
            r"\bfree variable (?P<name>'\w+') referenced before assignment in enclosing scope$"
        ),
        (
            r"cannot access free variable \g<name> where it is not associated with a value in"
            r" enclosing scope"
        ),
    ),
    (
        re.compile(
            r"(?P<what>\bCan't instantiate abstract class \S+) "
            r"(?:with|without an implementation for) (?P<methods>abstract methods?) "
            r"(?P<names>.*)$"
        ),
        r"\g<what> without an implementation for \g<methods> \g<names>",
    ),
    (re.compile(r" and no __dict__ for setting new attributes$"), ""),
    (
        re.compile(r"(?P<name>'\w+') is an invalid keyword argument for (?P<call>[\w.]+\(\))$"),
        r"\g<call> got an unexpected keyword argument \g<name>",
    ),
    (re.compile(r"\b(max|min)\(\) arg is an empty sequence$"), r"\1() iterable argument is empty"),
    (re.compile(r"(?<=string indices must be integers), not '\w+'$"), ""),
    (re.compile(r"^c10::(?:CUDA)?Error: (?=(?:CUDA|HIP) error: )"), "c10::AcceleratorError: "),
    # Triton 3.4 names one more way out.
    (re.compile(r"(?<=via CC environment variable) or set triton\.knobs\.build\.impl"), ""),
    (re.compile(r"(?<=/)NCCLUtils\.hpp(?=:\d)"), "NCCLUtils.cpp"),
    # Which of its processes failed first depends on the run.
    (re.compile(r" Failed core proc\(s\): (?:\{[^}]*\}?)?$"), ""),
    # Xinference puts the place of its process before a message.
    (re.compile(r"(?<=: )\[address=[^\]]{1,60}\] "), ""),
)
ABSTRACT = re.compile(r"(?<=abstract method )\w+$|(?<=abstract methods )\w+(?:, \w+)*$")
# The order of a set of texts changes with each process.
SET = re.compile(r"\{('[^'{}]*'(?:, '[^'{}]*')+)\}")
# Torch wraps what went wrong in these, in one release more than in another.
WRAPPED = re.compile(
    r"(?:(?:[a-z_]\w*\.)*(?:InductorError|BackendCompilerFailed|LoweringException"
    r"|InternalTorchDynamoError): )+"
    r"(?=(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)\b)"
)
VARYING: Sequence[tuple[re.Pattern[str], str]] = (
    (re.compile(r"\b(?:[0-9a-fA-F]{4,8}:)[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.\d)?\b"), "<bus>"),
    (re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "<address>"),
    (re.compile(r"\.(?:cpython|pypy)-?3\d+[\w-]*(?=\.so\b)"), ""),
    (
        re.compile(r"\b__compiled_fn_\d+(?:_[0-9a-fA-F]{8}(?:_[0-9a-fA-F]+){4})?\b"),
        "__compiled_fn_<n>",
    ),
    (re.compile(r"\b(torch_dynamo_resume_in_\w+?_at)_\d+\b"), r"\1_<line>"),
    (re.compile(r"\b((?:triton|cpp)_(?:[a-z]{2,4}_)?fused)_\w+"), r"\1_<kernel>"),
    (re.compile(r"\b((?:sub|sub_)?graph|graph_module|submod|primals|tangents)_\d+\b"), r"\1_<n>"),
    (re.compile(r"\b(buf|op)\d+\b"), r"\1<n>"),
    (re.compile(r"\barg\d+_\d+\b"), "arg<n>"),
    (re.compile(r"(<eval_with_key>)\.\d+\b"), r"\1.<n>"),
    # Inductor names a file by its content's hash, in base 32; tempfile by eight random characters.
    (re.compile(r"\bc[a-z2-7]{48,54}\b"), "<generated>"),
    (re.compile(r"\b(?:tmp|matrix-[a-z]+-)[a-z0-9_]{8}\b"), "<tmp>"),
    (re.compile(r"\b\d\d-\d\d \d\d:\d\d:\d\d(?:[.,]\d+)?\b"), "<time>"),
    (
        re.compile(
            r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)?\b"
        ),
        "<time>",
    ),
    (re.compile(r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b"), "<time>"),
    (
        re.compile(
            r"\b\d+(?:\.\d+)? ?(?:ns|us|µs|ms|s|(?:milli|micro|nano)?seconds?|secs?|min|mins"
            r"|minutes?|hours?)\b"
        ),
        "<time>",
    ),
    # NCCL's watchdog: which of its operations did not end depends on the run.
    (re.compile(r"\bTimeout\(ms\)=\d+"), "Timeout=<time>"),
    (re.compile(r"\bSeqNum=\d+"), "SeqNum=<n>"),
    # Sizes that torch does not fix have symbols, numbered by the graph: name 's77' is not defined
    (re.compile(r"(?<=\bname ')(?:s|u|ks|ps|zuf|zf)\d+(?=' is not defined)"), "<size>"),
    # The machine's own: its driver, its GPU, its CUDA.
    (
        re.compile(
            r"\b((?i:driver|NVML library|kernel module|nvidia-smi)(?: \w+){0,2}? [vV]ersion)"
            r"((?: is|:|=|,)? ?\(?)\d+(?:\.\d+)*\b"
        ),
        r"\1\2<version>",
    ),
    (re.compile(r"(?<=\(found version )\d+(?:\.\d+)*"), "<version>"),
    (re.compile(r"(?<=the current Python version \()\d+(?:\.\w+)*(?=\))"), "<version>"),
    (re.compile(r"(?<=requires a different Python: )\d+(?:\.\w+)+"), "<version>"),
    (re.compile(r"(?<=\bNCCL version )\d+(?:\.\d+)+"), "<version>"),
    (re.compile(r"\b((?:NVIDIA|AMD|Nvidia) driver) v?\d+(?:\.\d+)+"), r"\1 <version>"),
    (
        re.compile(
            r"((?i:detected|system|installed|current|local|your)"
            r" (?:CUDA|nvcc|NVCC|ROCm|g\+\+|gcc|GCC)"
            r"(?: \w+)?? ?(?:version)?(?: of \S+)?)( is|:|=)?( ?\(?)v?\d+(?:\.\d+)+\b"
        ),
        r"\1\2\3<version>",
    ),
    (re.compile(r"(installed version of [\w+]+ )\(\d+(?:\.\d+)*\)"), r"\1(<version>)"),
    (
        re.compile(
            r"\b([Yy]our) [\w ./-]{1,60}? (GPU|device)( \w+){0,2} (compute capability) \d[\d.]*\d"
        ),
        r"\1 <gpu> \2\3 \4 <capability>",
    ),
    (
        re.compile(
            r"\b((?i:current|your|this|the|device(?:'s)?|GPU(?:'s)?|found|detected|got|has|have|but)"
            r"(?: GPU| device)?(?: has| is| with)? (?:CUDA |compute )?capability)( is|:|=| of)?"
            r" ?(?:sm_?\d+[af]?|\(?\d+(?:(?:\.|, ?)\d+)?\)?)(?!\w)"
        ),
        r"\1\2 <capability>",
    ),
    (re.compile(r"\bDeviceCapability\(major=\d+, minor=\d+\)"), "DeviceCapability(<capability>)"),
    (re.compile(r"\b\d+(?:\.\d+)? ?[KMGT]i?B\b"), "<size>"),
    (re.compile(r"\b\d+(?:\.\d+)?/<size>"), "<size>/<size>"),
    (re.compile(r"\bcuda:\d+\b"), "cuda:<device>"),
    (re.compile(r"\bGPU( ?)\d+\b"), r"GPU\1<device>"),
    (re.compile(r"\b((?i:pid|process|thread)(?: id)?)(\s*[=:#]?\s*)\d+\b"), r"\1\2<pid>"),
    # torch names each program that holds memory of a GPU that is full.
    (re.compile(r"(?: Process <pid> has <size> memory in use\.)+"), ""),
    (re.compile(r"\b((?i:port))(\s*[=:#]?\s*)\d+\b"), r"\1\2<port>"),
    (re.compile(r"((?:\d{1,3}\.){3}\d{1,3}|\blocalhost|\[[0-9a-f:]*\]):\d+\b"), r"\1:<port>"),
    (re.compile(r"(?<![\w.])(?!127\.|0\.0\.0\.0)(?:\d{1,3}\.){3}\d{1,3}:<port>"), "<host>:<port>"),
    (re.compile(r"\b((?i:line)) \d+\b"), r"\1 <line>"),
    (re.compile(r"(<path>(?:/[\w.-]+)?|\.py):\d+(?::\d+)?\b"), r"\1:<line>"),
    (re.compile(r"\b((?i:ip|ip address))([=:] ?| )(?:\d{1,3}\.){3}\d{1,3}\b"), r"\1\2<host>"),
    (re.compile(r"(?<=_)((?:DC|PC|T|P|D|E)P)\d+(?=_|\b)"), r"\1<rank>"),
    (re.compile(r"\b(VllmWorker(?:Process)?-|EngineCore_)\d+\b"), r"\1<rank>"),
    (re.compile(r"(?<![^\W_])([Rr]ank)([ =:]{1,2})\d+\b"), r"\1\2<rank>"),
    (re.compile(r"\b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}\b"), "<id>"),
)


FRAME_LIMIT = 120
FRAME = re.compile(
    r"""\s*File "(?P<file>[^"]+)", line \d+(?:,? in (?P<function>\S+))?\s*"""
    # IPython's: File /x/vllm/entrypoints/llm.py:112, in LLM.__init__(self, model)
    r"""|File (?P<cell_file>[^\s":]+):\d+, in (?P<cell_function>[\w.<>]+)(?:\(.*)?"""
)
PYTEST_FRAME = re.compile(r"(?P<file>[^\s:]+\.py):\d+: ?(?:in (?P<function>\S+)|[\w.]*)")
DEFINED = re.compile(r"[> ]\s*(?:async )?def (?P<function>\w+)\(.*")
CRASHED = "Fatal Python error:"
THREAD = re.compile(r"Current thread .*\(most recent call first\):")
USER_CODE = "from user code:"
# Of these the frames of the code that was traced say more than those of the tracer.
TRACED = re.compile(r"torch\._dynamo\.exc\.(?!BackendCompilerFailed|InternalTorchDynamoError)")
SIGNED = re.compile(r"(?P<message>.*) @ (?P<where>(?:[\w.<>+-]+/)+[\w.<>+-]+\.py:[\w<>]+…?|…\S+)")

INSTALLED = re.compile(r".*(?:site|dist)-packages/(?:[^/]+\.egg/)?")
# Below a cache of compiled code every file is generated, whatever package named its folders.
GENERATED = re.compile(
    r"(?:.*/)?(?:\.cache|\.triton|\.deep_gemm|\.tvm[\w-]*|\.flashinfer|torchinductor_[^/]*"
    r"|(?:torch_compile|inductor|triton)_cache|torch_aot_compile|cached_ops)/.*"
    r"|(?:.*/)?(?:c[a-z2-7]{48,54}|[0-9a-f]{32,})\.py"
)
# A folder of a package is none of these: a cache can lie in a folder that is named for a package.
GENERATED_BELOW = re.compile(
    r"(?:.*/)?(?:(?:compile_|jit_|kernel_)?cache|[0-9a-f]{10,}|rank_\d+_\d+)/.*"
)
STANDARD = re.compile(r"(?:.*/)?lib(?:64)?/python3\.\d+/")
OWN_PACKAGES = frozenset(
    ("flashinfer", "matrix", "torch", "torchaudio", "torchvision", "transformers", "triton", "vllm")
)
# What only passes a call on, and stands innermost for faults of every kind.
PLUMBING_FILES = re.compile(
    r"(?:_pytest|pluggy|pytest|pydantic|typing_extensions)\b.*"
    r"|torch/_(?:compile|ops|utils_internal)\.py|torch/overrides\.py"
    r"|torch/_dynamo/(?:convert_frame|eval_frame|repro/\w+)\.py"
    r"|torch/fx/(?:graph_module|_lazy_graph_module|interpreter)\.py"
    r"|torch/utils/(?:_contextlib|_device|_python_dispatch)\.py"
    r"|torch/distributed/c10d_logger\.py"
    r"|vllm/tracing/.*"
)
PLUMBING_FUNCTIONS = frozenset(
    (
        "__getattr__",
        "__getattribute__",
        "__torch_dispatch__",
        "__torch_function__",
        "_call_impl",
        "_call_user_compiler",
        "_child",
        "_compile",
        "_compile_inner",
        "_fn",
        "_inner",
        "_wrapped_call_impl",
        "_wrapper",
        "async_wrapper",
        "call_user_compiler",
        "compile_inner",
        "decorate_context",
        "inner",
        "sync_wrapper",
        "time_wrapper",
        "wrapped",
        "wrapper",
        "wrapper_function",
        # Python 3.12 has no frame of its own for these any more (PEP 709).
        "<dictcomp>",
        "<listcomp>",
        "<setcomp>",
    )
)
