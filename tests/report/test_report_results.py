from matrix.report.results import prune_lines
from matrix.store.retention import Stored
from matrix.verdict.precedence import run_order

ORDER = run_order("2026", None)
GONE = [
    Stored(key=str(index), cell="py311-torch210-vllm019", platform="cpu", order=ORDER, whole=True)
    for index in range(2)
]


def test_a_prune_tells_what_it_did_and_not_what_it_wanted() -> None:
    paths = ["a.json", "b.json", "c.json"]
    assert prune_lines(GONE, paths, 4, done=3) == "deleted 2 records (3 files); 4 stay\n"
    assert prune_lines(GONE, paths, 4, done=1) == (
        "deleted 1 of 3 files; 4 other records stay\n"
        "2 files gone already, or written meanwhile and left\n"
    )
    assert prune_lines(GONE, paths, 4, done=None).splitlines() == [
        *paths,
        "2 records (3 files) would be deleted, 4 stay; --yes deletes them",
    ]
    assert prune_lines([], [], 4, done=None) == "nothing to delete, 4 records stay\n"
