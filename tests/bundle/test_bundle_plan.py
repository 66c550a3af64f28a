"""matrix.bundle.plan: what a bundle is planned from."""

import json
from importlib import resources

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.bundle import plan as bundle
from matrix.bundle.manifest import BundleCell, BundleItem, Package
from matrix.bundle.plan import BundlePlanError, Have
from matrix.catalog.cells import Cell
from matrix.checks.resolution.lock import LockFileError, Pinned, Target, parse_lock

LOCK = """\
torch==2.11.0 \\
    --hash=sha256:{a} \\
    --hash=sha256:{b}
    # via
    #   -r -
    #   vllm
triton==3.6.0 --hash=sha256:{a}
    # via torch
nvidia-cublas==13.1.0.3 \\
    --hash=sha256:{a}
    # via
    #   cuda-toolkit
    #   nvidia-cudnn-cu13
nvidia-cudnn-cu13==9.19.0.56 \\
    --hash=sha256:{a}
    # via torch
cuda-toolkit==13.0.2 \\
    --hash=sha256:{a}
    # via torch
numpy==2.2.6 \\
    --hash=sha256:{a}
    # via
    #   torch
    #   vllm
ray[cgraph]==2.60.0 \\
    --hash=sha256:{a}
    # via vllm
cupy-cuda12x==14.2.0 \\
    --hash=sha256:{a}
    # via ray
vllm==0.20.2 \\
    --hash=sha256:{a}
    # via -r -
""".format(a="a" * 64, b="b" * 64)


def test_a_lock_is_read() -> None:
    lock = parse_lock(LOCK)
    assert lock["torch"] == Pinned(
        name="torch",
        version="2.11.0",
        hashes=frozenset({"a" * 64, "b" * 64}),
        via=frozenset({"-r -", "vllm"}),
    )
    assert lock["ray"].version == "2.60.0"
    assert lock["cupy-cuda12x"].via == {"ray"}


def test_an_empty_lock_is_refused() -> None:
    with pytest.raises(LockFileError, match="empty"):
        parse_lock("# nothing\n")


def test_what_the_target_has_takes_along_what_only_it_requires() -> None:
    lock = parse_lock(LOCK)
    have, out = bundle.left_out(lock, [Have(name="torch", version="2.11.0")], [])
    assert have == {"torch": "2.11.0"}
    assert out == {
        "cuda-toolkit": "13.0.2",
        "nvidia-cublas": "13.1.0.3",
        "nvidia-cudnn-cu13": "9.19.0.56",
        "triton": "3.6.0",
    }


def test_a_have_of_another_version_does_not_count() -> None:
    lock = parse_lock(LOCK)
    assert bundle.left_out(lock, [Have(name="torch", version="2.10.0")], []) == ({}, {})
    wrong = bundle.unfit_have(
        Have(name="torch", version="2.10.0"), {"py312-torch211-vllm020": lock}
    )
    assert wrong is not None
    assert "--have torch==2.10.0" in wrong
    assert "py312-torch211-vllm020 takes 2.11.0" in wrong
    unknown = bundle.unfit_have(Have(name="jax", version="1.0"), {"cell": lock})
    assert unknown is not None
    assert "no cell of this bundle needs jax" in unknown
    assert bundle.unfit_have(Have(name="torch", version="2.11.0"), {"cell": lock}) is None


def test_a_pattern_leaves_out_what_only_it_requires() -> None:
    lock = parse_lock(LOCK)
    assert bundle.left_out(lock, [], ["Ray"]) == ({}, {"cupy-cuda12x": "14.2.0", "ray": "2.60.0"})
    assert bundle.left_out(lock, [], ["nvidia_*"])[1].keys() == {
        "nvidia-cublas",
        "nvidia-cudnn-cu13",
    }
    assert bundle.unmatched(["nvidia_*", "ray"], {"cell": lock}) is None
    assert "--without rya" in (bundle.unmatched(["ray", "rya"], {"cell": lock}) or "")


NAMES = st.sampled_from("abcdefgh")


@given(
    st.dictionaries(NAMES, st.frozensets(NAMES | st.just("-r -"), max_size=3), min_size=1),
    st.frozensets(NAMES, max_size=3),
    st.frozensets(NAMES, max_size=2),
)
def test_what_stays_is_what_is_still_asked_for(
    via: dict[str, frozenset[str]], had: frozenset[str], without: frozenset[str]
) -> None:
    lock = {
        name: Pinned(
            name=name,
            version="1",
            hashes=frozenset(),
            via=frozenset(other for other in by if other in via or other == "-r -"),
        )
        for name, by in via.items()
    }
    have, out = bundle.left_out(lock, [Have(name=name, version="1") for name in had], list(without))
    assert have.keys() == had & lock.keys()
    kept = lock.keys() - have.keys() - out.keys()
    assert not kept & without
    for name, pinned in lock.items():
        asked = not pinned.via or "-r -" in pinned.via or bool(pinned.via & kept)
        if name not in had and name not in without:
            assert (name in kept) is asked or name in out
            assert asked or name in out


@pytest.mark.parametrize(
    ("text", "size"),
    [("58MiB", 58 << 20), ("1GiB", 1 << 30), ("1.5 KiB", 1536), ("7", 7), ("7B", 7)],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert bundle.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "0MiB", "-1", "58MB", "58mib", "MiB", "1e3", "0.1"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BundlePlanError, match="write it as 58MiB"):
        bundle.parse_size(text)


@given(st.integers(1, 2**40), st.sampled_from([("KiB", 10), ("MiB", 20), ("GiB", 30)]))
def test_units_are_powers_of_two(number: int, unit: tuple[str, int]) -> None:
    assert bundle.parse_size(f"{number}{unit[0]}") == number << unit[1]


def test_a_have_is_read() -> None:
    assert bundle.parse_have("Torch==2.11.0+cu128") == Have(name="torch", version="2.11.0")


@pytest.mark.parametrize(
    "text", ["torch", "torch=2.11", "==2.11", "torch==", "torch==new", "a b==1"]
)
def test_what_is_no_have_is_refused(text: str) -> None:
    with pytest.raises(BundlePlanError, match=r"write it as torch==2\.11\.0"):
        bundle.parse_have(text)


def test_the_cells_share_one_python() -> None:
    cells = [Cell("3.12", "2.9.1", "0.16.0"), Cell("3.12", "2.10.0", "0.19.1")]
    assert bundle.one_python(cells) == "3.12"
    with pytest.raises(BundlePlanError, match=r"py311-torch29-vllm016 is Python 3.11"):
        bundle.one_python([*cells, Cell("3.11", "2.9.1", "0.16.0")])


def test_a_cell_asks_for_its_pins() -> None:
    pins = {"torch": "2.9.1", "torchvision": "0.24.1", "torchaudio": "2.9.1"}
    needed = bundle.requirements(Cell("3.12", "2.9.1", "0.16.0"), pins, ["packaging>=26.3"])
    assert needed == (
        *("torch==2.9.1", "torchvision==0.24.1", "torchaudio==2.9.1", "vllm==0.16.0"),
        *("pytest>=8", "packaging>=26.3"),
    )


def test_a_target_has_its_platforms() -> None:
    target = Target(python="3.12", glibc="2.17")
    assert target.uv_platform == "x86_64-manylinux_2_17"
    tags = target.pip_platforms
    assert tags[:2] == ("manylinux_2_17_x86_64", "manylinux2014_x86_64")
    assert {
        "manylinux1_x86_64",
        "manylinux2010_x86_64",
        "manylinux_2_5_x86_64",
        "linux_x86_64",
    } <= {*tags}
    assert Target(python="3.12", machine="aarch64").pip_platforms[-2:] == (
        "manylinux2014_aarch64",
        "linux_aarch64",
    )


def test_wheels_are_known_by_their_names() -> None:
    name = "nvidia_cublas_cu12-12.8.4.1-py3-none-manylinux_2_27_x86_64.whl"
    assert bundle.wheel_of([name]) == {("nvidia-cublas-cu12", "12.8.4.1"): name}
    with pytest.raises(BundlePlanError, match="is not a wheel"):
        bundle.wheel_of(["torch.zip"])


def test_the_manifest_obeys_its_schema() -> None:
    text = bundle.manifest_text(
        made="2026-11-22T21:00:00Z",
        target=Target(python="3.12"),
        gpu_arch="sm_90",
        installer="wheels/uv.whl",
        without=["ray"],
        cells=[
            BundleCell(
                name="py312-torch211-vllm020",
                lock=(Package(name="vllm", version="0.20.2", wheel="wheels/vllm.whl"),),
                have={"torch": "2.11.0"},
                left_out={"ray": "2.60.0"},
            )
        ],
        files=[
            BundleItem(name="wheels/vllm.whl", bytes=3, sha256="c" * 64, published="d" * 64),
            BundleItem(name="wheels/uv.whl", bytes=1, sha256="e" * 64),
        ],
        parts=[BundleItem(name="part-000", bytes=5, sha256="f" * 64)],
    )
    schema = json.loads((resources.files("matrix") / "data" / "bundle.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(text), schema)
    assert [file["name"] for file in json.loads(text)["files"]] == [
        "wheels/uv.whl",
        "wheels/vllm.whl",
    ]
