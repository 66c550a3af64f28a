import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from matrix._util.nvidia import START_MIB
from matrix.inside import starts, torch_internals, vllm_compat
from matrix.inside.models import LEFT_OUT, MODELS, overrides
from matrix.inside.starts import Startup, StateError, cannot_run, observe
from matrix.record.model import Platform

COUNTED = {"num_compiled_artifacts_saved": 3, "aot_autograd.total": 5}
SMALL = Startup(model=MODELS["small-dense"], platform=Platform.CPU)


class Engine:
    """A stand-in for vLLM's `LLM`, and what became of it."""

    def __init__(self) -> None:
        compilation = SimpleNamespace(compilation_time=1.5)
        self.llm_engine = SimpleNamespace(
            vllm_config=SimpleNamespace(compilation_config=compilation)
        )


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(vllm_compat, "clean_state", lambda: None)
    monkeypatch.setattr(vllm_compat, "cuda_spoilt_by_fork", lambda: False)
    monkeypatch.setattr(vllm_compat, "counters", lambda: dict(COUNTED))
    monkeypatch.setattr(vllm_compat, "compiler_seconds", lambda: {"CompiledArtifact.save": 0.12345})
    return monkeypatch


@contextlib.contextmanager
def runner(startup: Startup) -> Iterator[Any]:
    yield Engine()


def test_a_start_is_observed(clean: pytest.MonkeyPatch) -> None:
    seen = observe(SMALL, runner)
    assert seen["counters"] == COUNTED
    assert seen["seconds"]["compilation"] == 1.5
    assert seen["seconds"]["total"] >= 0


def test_a_start_says_where_its_seconds_went(clean: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def telling(startup: Startup) -> Iterator[Any]:
        log = logging.getLogger("vllm.compilation.backends")
        log.info("Dynamo bytecode transform time: %.2f s", 3.61582)
        with runner(startup) as llm:
            yield llm

    seconds = observe(SMALL, telling)["seconds"]
    for measured in ("total", "shutdown"):
        assert 0 <= seconds.pop(measured) < 60
    # More is reported than the start took, so nothing is left without a name.
    assert seconds == {"compilation": 1.5, "dynamo": 3.616, "save": 0.123, "unnamed": 0}


def test_what_no_part_has_is_unnamed(clean: pytest.MonkeyPatch) -> None:
    clean.setattr(vllm_compat, "compiler_seconds", dict)
    seconds = observe(SMALL, runner)["seconds"]
    assert seconds["unnamed"] == seconds["total"]


def test_a_start_keeps_what_was_only_logged(clean: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def failing(startup: Startup) -> Iterator[Any]:
        log = logging.getLogger("vllm.compilation.decorators")
        log.warning(
            "Compiling model again due to a load failure from %s, reason: %s", "/x/model", "no key"
        )
        with runner(startup) as llm:
            yield llm

    again = "Compiling model again due to a load failure from /x/model, reason: no key"
    assert observe(SMALL, failing)["events"] == [{"kind": "load_failed", "text": again, "count": 1}]
    assert observe(SMALL, runner)["events"] == []


def test_a_start_says_what_it_left_in_its_caches(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clean.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    clean.delenv("VLLM_CACHE_ROOT", raising=False)
    clean.delenv("TRITON_CACHE_DIR", raising=False)
    clean.setattr(torch_internals, "metrics", lambda: {"generated_kernel_count": 2})

    @contextlib.contextmanager
    def compiling(startup: Startup) -> Iterator[Any]:
        clean.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "vllm"))  # as vLLM does
        (tmp_path / "inductor" / "ab").mkdir(parents=True)
        (tmp_path / "inductor" / "ab" / "c.so").write_bytes(b"123")
        with runner(startup) as llm:
            yield llm
        (tmp_path / "inductor" / "ab" / "later.so").write_bytes(b"123")

    seen = observe(SMALL, compiling)
    assert seen["metrics"] == {"generated_kernel_count": 2}
    assert seen["caches"] == {"compiled": {"files": 1, "bytes": 3, "new_files": 1, "new_bytes": 3}}


def test_a_start_is_not_observed_where_something_was_compiled_before(
    clean: pytest.MonkeyPatch,
) -> None:
    clean.setattr(vllm_compat, "clean_state", lambda: "aot_autograd.total=5")
    with pytest.raises(StateError, match=r"compiled before the start: aot_autograd\.total=5"):
        observe(SMALL, runner)


def test_a_start_on_a_gpu_is_not_observed_after_a_fork_that_spoilt_it(
    clean: pytest.MonkeyPatch,
) -> None:
    clean.setattr(vllm_compat, "cuda_spoilt_by_fork", lambda: True)
    assert observe(SMALL, runner)["counters"] == COUNTED
    with pytest.raises(StateError, match="CUDA was touched before the fork"):
        observe(Startup(model=MODELS["small-dense"], platform=Platform.CUDA), runner)


def test_the_engine_can_be_freed_when_the_runner_ends(clean: pytest.MonkeyPatch) -> None:
    import gc
    import weakref

    left: list[object] = []

    @contextlib.contextmanager
    def watched(startup: Startup) -> Iterator[Any]:
        held: Any = Engine()
        reference = weakref.ref(held)
        try:
            yield held
        finally:
            held = None
            gc.collect()
            left.append(reference())

    observe(SMALL, watched)
    assert left == [None]


@pytest.mark.parametrize(
    ("model", "platform", "capability", "complete", "reason"),
    [
        ("small-dense", Platform.CPU, None, False, None),
        ("gpt-oss-120b", Platform.CPU, None, False, None),
        ("gpt-oss-120b", Platform.CUDA, (8, 0), False, None),
        ("gpt-oss-120b", Platform.CUDA, (7, 5), False, "mxfp4 weights need compute capability 8.0"),
        ("minimax-m2.5", Platform.CUDA, (7, 0), False, "fp8 weights need compute capability 7.5"),
        ("minimax-m2.5", Platform.CUDA, (7, 5), False, None),
        ("minimax-m2.5", Platform.CPU, None, False, None),
        ("deepseek-v3.2", Platform.CPU, None, True, None),
        (
            "deepseek-v3.2",
            Platform.CPU,
            None,
            False,
            "this release has a model of its own for sparse",
        ),
        ("deepseek-v3.2", Platform.CUDA, (8, 9), True, "sparse MLA needs compute capability 9.0"),
        ("deepseek-v3.2", Platform.CUDA, (9, 0), True, None),
        ("deepseek-v3.2", Platform.CUDA, None, True, None),
        ("deepseek-v3.2", Platform.CUDA, (9, 0), False, "sparse MLA needs DeepGEMM"),
        ("kimi-k2.5", Platform.CUDA, (7, 0), False, None),
        ("kimi-k2.5", Platform.CUDA, (9, 0), False, None),
        ("kimi-k2.5", Platform.CPU, None, True, None),
        ("kimi-k2.5", Platform.CPU, None, False, None),
    ],
)
def test_what_a_machine_cannot_run_has_its_reason(
    monkeypatch: pytest.MonkeyPatch,
    *,
    model: str,
    platform: Platform,
    capability: tuple[int, int] | None,
    complete: bool,
    reason: str | None,
) -> None:
    monkeypatch.setattr(
        vllm_compat, "architectures", lambda: frozenset(m.architecture for m in MODELS.values())
    )
    monkeypatch.setattr(vllm_compat, "compute_capability", lambda: capability)
    monkeypatch.setattr(vllm_compat, "lacks_deep_gemm", lambda: not complete)
    monkeypatch.setattr(vllm_compat, "compiles_sparse_mla", lambda: complete)
    found = cannot_run(MODELS[model], platform)
    assert found == reason or (reason is not None and str(found).startswith(reason))


def test_a_release_without_the_architecture_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_compat, "architectures", lambda: frozenset({"LlamaForCausalLM"}))
    assert cannot_run(MODELS["small-moe"], Platform.CPU) == "this vLLM has no MixtralForCausalLM"


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].images])
def test_a_model_with_images_has_a_tokenizer_that_knows_its_placeholder(name: str) -> None:
    folder = MODELS[name].folder
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    placeholder = vocabulary["<|media_pad|>"]
    assert config["media_placeholder_token_id"] == config["image_token_id"] == placeholder
    assert {token["content"]: token["id"] for token in tokenizer["added_tokens"]} == vocabulary
    special = json.loads((folder / "tokenizer_config.json").read_text())
    assert {special[f"{name}_token"] for name in ("bos", "eos", "unk", "pad")} <= set(vocabulary)


def test_a_model_that_sees_knows_the_tokens_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS["small-vision"]
    config = json.loads((model.folder / "config.json").read_text())
    vocabulary = json.loads((model.folder / "tokenizer.json").read_text())["model"]["vocab"]
    for name in ("image", "video", "vision_start", "vision_end"):
        token = f"<|{name}_pad|>" if name in ("image", "video") else f"<|{name}|>"
        assert config[f"{name}_token_id"] == vocabulary[token]
    processor = json.loads((model.folder / "preprocessor_config.json").read_text())
    vision = config["vision_config"]
    assert processor["patch_size"] == vision["patch_size"]
    assert processor["merge_size"] == vision["spatial_merge_size"]
    monkeypatch.setattr(vllm_compat, "learn_model_type", lambda name: None)
    compilation = SimpleNamespace()
    monkeypatch.setattr(vllm_compat, "compilation_config", lambda _: compilation)
    asked = Startup(model=model, platform=Platform.CPU, encoder=True)
    assert "skip_tokenizer_init" not in starts._arguments(asked)
    assert compilation.compile_mm_encoder
    blind = Startup(model=MODELS["small-dense"], platform=Platform.CPU)
    assert starts._arguments(blind)["skip_tokenizer_init"]


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_its_configuration(name: str) -> None:
    assert MODELS[name].model_type
    assert (MODELS[name].folder / "config.json").is_file()


def test_overrides_go_where_the_model_reads_them() -> None:
    assert overrides(MODELS["small-dense"], Platform.CPU) == {}
    assert overrides(MODELS["phi-tiny-moe"], Platform.CUDA) == {}
    on_cpu = overrides(MODELS["phi-tiny-moe"], Platform.CPU)
    assert isinstance(on_cpu, dict) and on_cpu["hidden_size"] == 256
    assert "num_hidden_layers" not in on_cpu
    kimi = overrides(MODELS["kimi-k2.5"], Platform.CUDA)
    assert isinstance(kimi, dict) and list(kimi) == ["text_config"]


class Config(SimpleNamespace):
    """A configuration as transformers has it."""

    def update(self, values: dict[str, Any]) -> None:
        vars(self).update(values)


def test_on_the_cpu_a_model_goes_without_its_quantization() -> None:
    model = MODELS["minimax-m2.5"]
    assert isinstance(overrides(model, Platform.CUDA), dict)
    change = overrides(model, Platform.CPU)
    assert callable(change)
    config = change(Config(hidden_size=3072, quantization_config={"quant_method": "fp8"}))
    assert config.hidden_size == 256 and not hasattr(config, "quantization_config")
    # The platform learns from it what CUDA would do; a second call leaves it there.
    assert getattr(change(config), LEFT_OUT) == {"quantization_config": {"quant_method": "fp8"}}


@pytest.mark.parametrize(
    ("memory", "share"), [(81559, START_MIB / 81559), (143771, START_MIB / 143771), (24576, 0.25)]
)
def test_a_start_asks_for_no_more_of_the_gpu_than_it_may_take(
    monkeypatch: pytest.MonkeyPatch, memory: int, share: float
) -> None:
    known = frozenset({"kv_cache_memory_bytes"})
    monkeypatch.setattr(vllm_compat, "compilation_config", lambda _: None)
    monkeypatch.setattr(vllm_compat, "learn_model_type", lambda name: None)
    monkeypatch.setattr(vllm_compat, "device_memory_mib", lambda: memory)
    monkeypatch.setattr(vllm_compat, "engine_arguments", lambda: known)
    arguments = starts._arguments(Startup(model=MODELS["small-dense"], platform=Platform.CUDA))
    assert arguments["gpu_memory_utilization"] == pytest.approx(share)
    assert arguments["kv_cache_memory_bytes"] == 1 << 30
    assert "gpu_memory_utilization" not in starts._arguments(SMALL)


def test_on_the_cpu_overrides_reach_the_parts_of_a_configuration() -> None:
    change = overrides(MODELS["kimi-k2.5"], Platform.CPU)
    assert callable(change)
    quantized = {"quant_method": "compressed-tensors"}
    text = Config(hidden_size=7168, kv_lora_rank=512, quantization_config=quantized)
    vision = Config(num_hidden_layers=27)
    config = change(Config(text_config=text, vision_config=vision, quantization_config=quantized))
    assert config.text_config is text and config.vision_config is vision
    assert (text.hidden_size, text.kv_lora_rank, vision.num_hidden_layers) == (256, 512, 1)
    assert not hasattr(config, "quantization_config") and not hasattr(text, "quantization_config")
    assert vars(change(Config())) == {}


def test_the_environment_keeps_vllm_in_this_process_and_off_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environ: dict[str, str] = {}
    monkeypatch.setattr("matrix.inside.starts.os.environ", environ)
    starts.prepare_environment("data")
    assert environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert environ["HF_HUB_OFFLINE"] == "1"
    environ.clear()
    starts.prepare_environment("hub")
    assert "HF_HUB_OFFLINE" not in environ
