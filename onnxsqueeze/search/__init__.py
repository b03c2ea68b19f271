"""The search for the best plan within the budget."""

from onnxsqueeze.search.integers import MILDER, with_integers
from onnxsqueeze.search.stored import smallest
from onnxsqueeze.search.trial import LEVELS, Search, Trial, at_level

__all__ = ["LEVELS", "MILDER", "Search", "Trial", "at_level", "smallest", "with_integers"]
