"""How the CPU platform fills dummy weights: few values are drawn, and new memory stays as it is."""

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

from stub_modules import stub_module

MODULE = "matrix.inside.cpu.weights"
LOADER = "vllm.model_executor.model_loader"
FILL = "initialize_single_dummy_weight"
DRAWN = 1 << 16


class Weight:
    """A weight of one dimension, a byte a value; a view shares its memory."""

    def __init__(self, memory: memoryview, *, contiguous: bool = True) -> None:
        self.memory = memory
        self._contiguous = contiguous

    def numel(self) -> int:
        return len(self.memory)

    def is_contiguous(self) -> bool:
        return self._contiguous

    def view(self, _: object) -> "Weight":
        return self

    def __getitem__(self, part: slice) -> "Weight":
        return Weight(self.memory[part])

    def any(self) -> bool:
        return any(self.memory)

    def copy_(self, other: "Weight") -> None:
        assert len(self.memory) == len(other.memory)
        self.memory[:] = bytes(other.memory)


def weight(values: int, before: int, *, contiguous: bool = True) -> Weight:
    return Weight(memoryview(bytearray([before]) * values), contiguous=contiguous)


class Vllm:
    """A vLLM whose loader draws the values 0, 1, 2, ... 250, 0, 1, ...; `drawn` counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, homes: tuple[str, ...]) -> None:
        self.drawn: list[int] = []
        self.given: list[dict[str, Any]] = []
        stub_module(monkeypatch, "torch").update(
            no_grad=lambda: lambda function: function, Tensor=Weight, uint8="uint8"
        )
        self.homes = {
            name: stub_module(monkeypatch, f"{LOADER}.{name}")
            for name in ("weight_utils", "dummy_loader")
        }
        for name in homes:
            self.homes[name][FILL] = self.draw
        monkeypatch.delitem(sys.modules, MODULE, raising=False)
        self.module: Any = importlib.import_module(MODULE)

    def draw(self, drawn: Weight, **named: Any) -> None:
        self.drawn.append(drawn.numel())
        self.given.append(named)
        drawn.memory[:] = bytes(at % 251 for at in range(drawn.numel()))

    def load(self, *weights: Weight, home: str = "dummy_loader") -> None:
        with self.module.quick_dummy_weights():
            fill: Callable[..., None] = self.homes[home][FILL]
            for loaded in weights:
                fill(loaded, name="a.weight")


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Vllm:
    return Vllm(monkeypatch, ("weight_utils", "dummy_loader"))


@pytest.mark.parametrize("home", ["weight_utils", "dummy_loader"])
@pytest.mark.parametrize("values", [DRAWN + 1, 2 * DRAWN, 5 * DRAWN + 7])
def test_the_first_values_repeat(vllm: Vllm, home: str, values: int) -> None:
    loaded = weight(values, before=9)
    vllm.load(loaded, home=home)
    first = bytes(at % 251 for at in range(DRAWN))
    assert bytes(loaded.memory) == (first * (values // DRAWN + 1))[:values]
    assert vllm.drawn == [DRAWN] and vllm.given == [{"name": "a.weight"}]


def test_new_memory_stays_as_it_is(vllm: Vllm) -> None:
    loaded = weight(40 * DRAWN, before=0)
    vllm.load(loaded)
    assert vllm.drawn == [] and not loaded.any()


def test_what_was_used_before_is_filled_wherever_it_is(vllm: Vllm) -> None:
    """Such as the rest of something larger, at the end of a weight."""
    loaded = weight(40 * DRAWN, before=0)
    loaded.memory[-4096:] = b"\7" * 4096
    vllm.load(loaded)
    assert vllm.drawn == [DRAWN] and loaded[slice(-4096, None)].any()
    assert bytes(loaded.memory[-4096:]) != b"\7" * 4096


@pytest.mark.parametrize(
    "loaded",
    [weight(1, 0), weight(DRAWN, 0), weight(2 * DRAWN, 0, contiguous=False)],
    ids=["one value", "small", "not contiguous"],
)
def test_vllm_draws_these_itself(vllm: Vllm, loaded: Weight) -> None:
    vllm.load(loaded)
    assert vllm.drawn == [loaded.numel()]


def test_afterwards_the_loader_is_what_it_was(vllm: Vllm) -> None:
    vllm.homes["weight_utils"][FILL] = None  # which nobody can call
    with pytest.raises(TypeError):
        vllm.load(weight(3, 1), home="weight_utils")
    assert (vllm.homes["weight_utils"][FILL], vllm.homes["dummy_loader"][FILL]) == (None, vllm.draw)


def test_a_loader_without_that_function_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older releases name it in one of the modules only."""
    vllm = Vllm(monkeypatch, ("weight_utils",))
    vllm.load(weight(3, 1), home="weight_utils")
    assert vllm.drawn == [3] and FILL not in vllm.homes["dummy_loader"]
