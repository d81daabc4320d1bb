"""Fixtures for pytest: a test that holds a fold, with the words of ``bnfold verify``.

pytest loads this file by itself where bnfold is installed (``-p no:bnfold`` leaves it out). Until
a test asks for a fixture and calls it, neither onnx nor NumPy is imported.

PYTEST_DONT_REWRITE: there are no assertions here, and bnfold may be imported before pytest starts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import pytest

_Failed: Any = pytest.fail.Exception


class ModelAssertionError(_Failed, AssertionError):  # type: ignore[misc]
    """What ``pytest.fail`` raises, which pytest can show as bare words, and an AssertionError."""

    __module__ = "builtins"  # as pytest's own, so that the line of its summary has room for words

    def __init__(self, text: str) -> None:
        _Failed.__init__(self, text, pytrace=False)


@pytest.fixture(scope="session")
def assert_same_function() -> Callable[..., None]:
    """A callable ``(original, folded, **options)`` that fails if they are not the same function.

    The models and the options are those of ``bnfold.verify``, and so is what it raises.
    """

    def assert_same_function(original: Any, folded: Any, **options: Any) -> None:
        __tracebackhide__ = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what onnx warns of is no matter of the user's tests
            from bnfold import api
            from bnfold.report.verify_text import verify_text

            report = api.verify(original, folded, **options)
        if not report.is_same:
            raise ModelAssertionError(verify_text(report))

    return assert_same_function


@pytest.fixture(scope="session")
def assert_no_foldable_norms() -> Callable[..., None]:
    """A callable ``(model, *, allow=(), max_left=None)`` that fails as ``bnfold check`` does.

    The arguments are those of ``bnfold.check``, and so is what it raises.
    """

    def assert_no_foldable_norms(
        model: Any, *, allow: Iterable[str] = (), max_left: int | None = None
    ) -> None:
        __tracebackhide__ = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from bnfold import api
            from bnfold.report.as_text import check_text

            verdict = api.check(model, allow=allow, max_left=max_left)
        if not verdict.is_clean:
            raise ModelAssertionError(check_text(verdict))

    return assert_no_foldable_norms
