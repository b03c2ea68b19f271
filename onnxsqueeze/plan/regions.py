"""Which kernels run on integers together: the set with the least time, borders included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from onnxsqueeze.analysis.regions import Link

ROUNDS = 8
"""Passes over all kernels; each ends sooner where nothing gets better."""


@dataclass(frozen=True)
class Kernel:
    """What one node costs.

    Attributes:
        y: Its output, which names it.
        together: Kernels with the same name here change together; a weight's readers do.
        float_ms: Its time in floats.
        integer_ms: Its time in integers.
        enter_ms: What making one of its inputs integers costs.
        leave_ms: What making its output floats costs.
    """

    y: str
    together: str
    float_ms: float
    integer_ms: float
    enter_ms: float
    leave_ms: float


def cheapest(kernels: Sequence[Kernel], links: Mapping[str, Link]) -> frozenset[str]:
    """Return the outputs of the kernels that should run on integers, by steepest descent.

    Starts with all kernels and, apart from that, with none; kernels that change together, and
    whole regions, change sides as long as that lowers the time. The better end counts.

    A tensor that is made in floats and read by an integer kernel costs what makes it integers,
    once; one that an integer kernel makes and that is read in floats, what makes it floats.

    Args:
        kernels: What each costs.
        links: Tensors between them, as ``analysis.regions.links`` returns them.
    """
    costs = _Costs(kernels, links)
    ends = [_descended(costs, start) for start in (costs.every, frozenset[str]())]
    best = min(ends, key=costs.total_ms)
    return best if costs.total_ms(best) < costs.total_ms(frozenset()) else frozenset()


def total_ms(chosen: Iterable[str], kernels: Sequence[Kernel], links: Mapping[str, Link]) -> float:
    """Return the time of all kernels with some of them, by output, in integers."""
    return _Costs(kernels, links).total_ms(frozenset(chosen))


class _Costs:
    """The time of a choice, and the steps that lead from it."""

    def __init__(self, kernels: Sequence[Kernel], links: Mapping[str, Link]) -> None:
        self.kernels = {one.y: one for one in kernels}
        self.links = {name: link for name, link in links.items() if self._is_between(link)}
        self.every = frozenset(self.kernels)
        groups: dict[str, set[str]] = {}
        for one in kernels:
            groups.setdefault(one.together, set()).add(one.y)
        self.groups = [frozenset(group) for group in groups.values()]

    def _is_between(self, link: Link) -> bool:
        return link.maker in self.kernels or any(y in self.kernels for y in link.readers)

    def total_ms(self, chosen: frozenset[str]) -> float:
        time = sum(
            one.integer_ms if one.y in chosen else one.float_ms for one in self.kernels.values()
        )
        return time + sum(self._border_ms(link, chosen) for link in self.links.values())

    def _border_ms(self, link: Link, chosen: frozenset[str]) -> float:
        readers = [y for y in link.readers if y in chosen]
        if link.maker is not None and link.maker in chosen:
            is_left = link.has_others or len(readers) < len(link.readers)
            return self.kernels[link.maker].leave_ms if is_left else 0.0
        return max((self.kernels[y].enter_ms for y in readers), default=0.0)

    def regions(self, chosen: frozenset[str]) -> list[frozenset[str]]:
        """Return the chosen kernels, together where integers flow between, or they change so."""
        root = {y: y for y in chosen}

        def found(y: str) -> str:
            while root[y] != y:
                root[y] = root[root[y]]
                y = root[y]
            return y

        flows = [(link.maker, *link.readers) for link in self.links.values()]
        for flow in (*flows, *self.groups):
            members = [y for y in flow if y is not None and y in root]
            for one in members[1:]:
                root[found(one)] = found(members[0])
        regions: dict[str, set[str]] = {}
        for y in chosen:
            regions.setdefault(found(y), set()).add(y)
        return [frozenset(region) for region in regions.values()]


def _descended(costs: _Costs, start: frozenset[str]) -> frozenset[str]:
    chosen, least = start, costs.total_ms(start)
    for _ in range(ROUNDS):
        before = least
        for group in (*costs.groups, *costs.regions(chosen)):
            other = chosen - group if group <= chosen else chosen | group
            time = costs.total_ms(other)
            if time < least:
                chosen, least = other, time
        if least == before:
            break
    return chosen
