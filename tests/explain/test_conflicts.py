"""Demands in uv's sentences that exclude each other, and those that do not."""

import pytest

from explained import lines

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
