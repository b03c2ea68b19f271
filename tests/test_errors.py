from __future__ import annotations

import re

import pytest

from onnxsqueeze import errors
from onnxsqueeze.errors import SqueezeError


def every():
    return [kind for kind in vars(errors).values() if isinstance(kind, type)]


def test_exit_codes_are_those_of_the_table():
    table = re.findall(r"(\w+Error)\s+(\d+)", errors.__doc__)
    assert {name: int(code) for name, code in table} == {
        kind.__name__: kind.exit_code for kind in every()
    }


def test_exit_codes_differ_and_leave_click_and_success_alone():
    codes = [kind.exit_code for kind in every()]
    assert len(set(codes)) == len(codes)
    assert {0, 2}.isdisjoint(codes)


@pytest.mark.parametrize("kind", every())
def test_all_are_squeeze_errors_and_say_what_they_were_given(kind):
    assert issubclass(kind, SqueezeError)
    assert str(kind("first\n  second")) == "first\n  second"
