"""The search for the best plan within the budget."""

from onnxsqueeze.search.best import trials
from onnxsqueeze.search.integers import MILDER, with_integers
from onnxsqueeze.search.narrowing import Narrowed, narrow, narrowed_by
from onnxsqueeze.search.refined import better, smaller
from onnxsqueeze.search.stored import smallest
from onnxsqueeze.search.trial import GIVEN_BACK, LEVELS, Search, Trial, applied, at_level

__all__ = [
    "GIVEN_BACK",
    "LEVELS",
    "MILDER",
    "Narrowed",
    "Search",
    "Trial",
    "applied",
    "at_level",
    "better",
    "narrow",
    "narrowed_by",
    "smaller",
    "smallest",
    "trials",
    "with_integers",
]
