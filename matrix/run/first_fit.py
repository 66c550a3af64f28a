"""The first of many in an order whose needs fit: a tree of the least needs of each part. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Needs = tuple[int, int, int, int, int, int]
"""What a job needs, or what there is: cores, memory and disk of a build, then cores, memory and GPU
memory of a run."""


def fits(needs: Needs, most: Needs) -> bool:
    """Tell whether no need is above what there is.

    >>> fits((2, 5, 0, 1, 1, 1), (2, 6, 0, 1, 1, 1)), fits((3, 5, 0, 1, 1, 1), (2, 6, 0, 1, 1, 1))
    (True, False)
    """
    # A loop takes three times as long, and this is asked several times for every job.
    return (
        needs[0] <= most[0]
        and needs[1] <= most[1]
        and needs[2] <= most[2]
        and needs[3] <= most[3]
        and needs[4] <= most[4]
        and needs[5] <= most[5]
    )


class FirstFit:
    """Places in an order, each with its needs; a place is in or out.

    A part of the order in which nothing fits is skipped as a whole, by the least of each need in
    it. To put a place in or out, and to find the first that fits, take about log(places) steps
    where the needs are alike. (A list that is searched from its front takes as many steps as there
    are places: 100,000 jobs would take hours to plan.)
    """

    def __init__(self, needs: Sequence[Needs]) -> None:
        """Take the needs of each place, which is in."""
        self._needs = tuple(needs)
        self._size = 1 << max(len(self._needs) - 1, 0).bit_length()
        empty: list[Needs | None] = [None]
        self._least = empty * self._size + [*self._needs] + empty * (self._size - len(needs))
        for node in range(self._size - 1, 0, -1):
            self._least[node] = _least(self._least[2 * node], self._least[2 * node + 1])
        # No place before this one is in.
        self._head = 0

    def put(self, place: int) -> None:
        """Put a place in."""
        self._set(place, self._needs[place])
        self._head = min(self._head, place)

    def drop(self, place: int) -> None:
        """Put a place out."""
        self._set(place, None)

    def first(self, most: Needs, accepts: Callable[[int], bool]) -> int | None:
        """Return the first place that is in, whose needs fit and that is accepted."""
        least, size = self._least, self._size
        head, count = self._head, len(self._needs)
        while head < count and least[size + head] is None:
            head += 1
        self._head = head
        if head == count:
            return None
        stack = [1]
        # Most often it is the very first.
        if fits(self._needs[head], most) and accepts(head):
            return head
        while stack:
            node = stack.pop()
            needs = least[node]
            if needs is None or not fits(needs, most):
                continue
            if node < size:
                stack += (2 * node + 1, 2 * node)
            elif accepts(node - size):
                return node - size
        return None

    def _set(self, place: int, needs: Needs | None) -> None:
        least, node = self._least, self._size + place
        least[node] = needs
        while node > 1:
            node //= 2
            found = _least(least[2 * node], least[2 * node + 1])
            if found == least[node]:
                break  # what lies above does not change either
            least[node] = found


def _least(one: Needs | None, other: Needs | None) -> Needs | None:
    if one is None or one == other:
        return other
    if other is None:
        return one
    return (
        min(one[0], other[0]),
        min(one[1], other[1]),
        min(one[2], other[2]),
        min(one[3], other[3]),
        min(one[4], other[4]),
        min(one[5], other[5]),
    )
