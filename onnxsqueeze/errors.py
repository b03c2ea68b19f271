"""Every deliberate error of the package, with the exit code the command line ends with.

::

    SqueezeError             1
    ├── ModelError           3   the model cannot be read, checked or understood
    ├── PlanError            4   the plan does not fit the model, or is malformed
    ├── DataError            5   samples do not fit the model's inputs
    ├── VerificationError    6   a promise about the result was broken
    ├── ProviderError        7   an execution provider is missing or runs nothing
    ├── DependencyError      8   an optional package is not installed
    ├── BudgetError          9   the budget could not be met; the message says what was written
    └── OutputError         10   the result cannot be written where it was asked for

Exit code 0 is success, 2 is a wrong command line (click's own code).

A message's first line says what does not fit, with the names and numbers found and needed; the
lines after it say where both sides come from and what to do.
"""

from __future__ import annotations


class SqueezeError(Exception):
    """Base of all deliberate errors; ``str(error)`` is what the user reads."""

    exit_code = 1


class ModelError(SqueezeError):
    """The model cannot be read, checked or understood."""

    exit_code = 3


class PlanError(SqueezeError):
    """The plan does not fit the model, or is malformed."""

    exit_code = 4


class DataError(SqueezeError):
    """Samples or labels do not fit the model."""

    exit_code = 5


class VerificationError(SqueezeError):
    """A promise about the result was broken, so nothing was written."""

    exit_code = 6


class ProviderError(SqueezeError):
    """An execution provider that was asked for is missing or ran no node."""

    exit_code = 7


class DependencyError(SqueezeError):
    """An optional package that this work needs is not installed."""

    exit_code = 8


class BudgetError(SqueezeError):
    """The budget could not be met; what was written instead is in the message."""

    exit_code = 9


class OutputError(SqueezeError):
    """The result cannot be written where it was asked for."""

    exit_code = 10
