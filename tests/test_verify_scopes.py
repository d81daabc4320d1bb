"""Norms inside of If, Loop and Scan bodies and of functions: folds of the table, and wrong ones."""

from __future__ import annotations

import onnx
import pytest

from tests.support_models import graphs
from tests.support_verify import copied, folded_of, judged
from tests.test_cases_fold_scopes import IF
