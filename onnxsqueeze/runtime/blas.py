"""How many threads NumPy's products may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let NumPy's products and factorisations run on one thread, inside or as a decorator.

    Rounding makes thousands of small ones in a row. On two threads each waits for the other,
    spinning: on two busy cores that took 3 to 15 times as long, and on idle ones no less.

    Example:
        >>> with one_blas_thread():
        ...     pass
    """
    with threadpool_limits(limits=1, user_api="blas"):
        yield
