"""Demands in uv's sentences that exclude each other, and those that do not."""

import pytest

from explained import apart, commands, lines, only
from matrix.explain.model import Meaning

UV = (
    "  × No solution found when resolving dependencies:\n  ╰─▶ Because a==1 depends on torch{} and"
    " b==1 depends on torch{}. And because you require a and b, we can conclude that your"
    " requirements are unsatisfiable."
)


@pytest.mark.parametrize(
    ("first", "second", "exclude"),
    [
        ("==2.9.0", "==2.10.0", True),
        (">=2.1,<2.5", "==2.6.0", True),
        ("==2.9.0", "==2.9.0", False),
        ("==2.9.0+cpu", "==2.9.0", False),
        ("==2.9.0", "<=2.*", False),  # not a range: nobody knows what it accepts
    ],
)
def test_a_demand_excludes_another_only_where_a_version_shows_it(
    first: str, second: str, *, exclude: bool
) -> None:
    means = lines(UV.format(first, second))["means"]
    assert means.startswith("no version fulfils both: ") is exclude, means
    if exclude:
        assert means.endswith(f"a 1 needs torch{first} and b 1 needs torch{second}")


OWN = (
    "  × No solution found when resolving dependencies:\n  ╰─▶ Because {}, we can conclude that"
    " these are incompatible.\n      And because your workspace requires them, we can conclude that"
    " your workspace's requirements are unsatisfiable."
)


@pytest.mark.parametrize(
    ("because", "means", "to_do"),
    [
        (
            "vllm==0.19.1 depends on torch==2.10.0 and my-app depends on torch==2.11.0",
            "vllm 0.19.1 needs torch==2.10.0 and my-app needs torch==2.11.0",
            apart("0.26.0", "2.11.0"),
        ),
        (
            (
                "my-app depends on torch==2.11.0 and vllm==0.19.1 and vllm==0.19.1 depends on"
                " torch==2.10.0"
            ),
            "my-app needs torch==2.11.0 and vllm 0.19.1 needs torch==2.10.0",
            apart("0.26.0", "2.11.0"),
        ),
        (
            "my-app depends on numpy==2.1.1 and vllm==0.5.4 depends on numpy<2.0.0",
            "my-app needs numpy==2.1.1 and vllm 0.5.4 needs numpy<2.0.0",
            "fulfil what the text names: vllm 0.5.4 needs numpy<2.0.0",
        ),
        (
            "my-app[gpu] depends on torch==2.9.0 and my-app[old] depends on torch==2.8.0",
            "my-app[gpu] needs torch==2.9.0 and my-app[old] needs torch==2.8.0",
            (
                "if they are never installed together, declare the extras or groups as conflicting"
                " in `tool.uv.conflicts` of pyproject.toml"
            ),
        ),
        (
            "my-app:dev depends on torch==2.9.0 and my-app depends on torch==2.8.0",
            "my-app:dev needs torch==2.9.0 and my-app needs torch==2.8.0",
            "if they are never installed together",
        ),
        (
            "my-lib depends on torch==2.8.0 and my-app depends on torch==2.9.0",
            "my-lib needs torch==2.8.0 and my-app needs torch==2.9.0",
            "relax one of the two; uv resolves a workspace as a whole",
        ),
    ],
)
def test_a_project_of_ones_own_asks_without_a_version(because: str, means: str, to_do: str) -> None:
    found = lines(OWN.format(because))
    assert found["means"] == f"no version fulfils both: {means}"
    assert found["to do"].startswith(to_do)


def test_one_who_asks_for_two_versions_excludes_nobody() -> None:
    """Each is for other platforms."""
    because = "vllm>=0.5.4,<=0.6.3.post1 depends on torch==2.4.0 and torch==2.3.1"
    assert lines(OWN.format(because))["means"].startswith("the resolver found no set of packages")


@pytest.mark.parametrize(
    "text",
    [
        "ERROR: No matching distribution found for my-lib",
        "ERROR: No matching distribution found for my-lib.",
        OWN.format("my-lib was not found in the package registry and my-app depends on my-lib"),
        OWN.format("there are no versions of my-lib and your project depends on my-lib"),
    ],
)
def test_a_project_that_no_index_has_may_be_ones_own(text: str) -> None:
    answer = only(text)
    assert answer.meaning is Meaning.NO_SUCH_VERSION
    assert lines(text)["means"] == (
        "the index that was asked has no my-lib for this Python and platform"
    )
    assert "`tool.uv.sources` of pyproject.toml" in lines(text)["to do"]
    vllm = only("ERROR: No matching distribution found for vllm")
    assert commands(vllm) == [apart("0.33.0", "2.14.0", "cuda-python>=13")]
