"""The report of a verification as text, as JSON and as JUnit XML."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from importlib.resources import files
from math import inf, nan
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from bnfold.checking.outcome import (
    Difference,
    NormCheck,
    OutputCheck,
    RuntimeCheck,
    RuntimeOutput,
    VerifyReport,
)
from bnfold.report.as_json import document, dumps, verify_json
from bnfold.report.junit import junit_error_xml, junit_xml
from bnfold.report.verify_text import place, units, verify_text
from tests.support_reports import DIFFERENT, INTERFACE, LONG, REPORTS, SAME

SCHEMA = json.loads((files("bnfold") / "report" / "schema.json").read_text())
DOCS = (Path(__file__).parent.parent / "docs" / "report.md").read_text()


@pytest.mark.parametrize("case", REPORTS)
def test_text_is_80_columns_wide(case: str) -> None:
    for line in verify_text(REPORTS[case]).splitlines():
        assert len(line) <= 80 or LONG in line, line
        assert line == line.rstrip()


def test_text_of_the_same_function() -> None:
    assert (
        verify_text(SAME)
        == """\
folded.onnx: same function as model.onnx: differences are 1.1x what rounding the
  weights once explains
  output   max abs  max relative  units       SNR    argmax
  y       1.19e-07       2.3e-07   1.1x  138.4 dB  100.00 %
  mask           0             0   0.0x    inf dB         -
  norms      1 of 2 the same, 1 not judged
  runtime    in onnxruntime folded.onnx is no further from the truth
  original   model.onnx
  judged     41 tensors in float64; up to 8.0x rounding is the same function
  feeds      normal x1, normal x30, zeros; seed 0"""
    )


def test_text_of_a_difference() -> None:
    assert (
        verify_text(DIFFERENT)
        == """\
folded.onnx: not the same function as model.onnx: y differs by 41x what rounding
  the weights once explains
  first differs at tensor relu_3, channel 7, which belongs to norm bn_2: 0.2281
    instead of 0.2285 (41x rounding) on feed 'normal x1'
  output  max abs  max relative  units      SNR   argmax
  y        0.0004        0.0017    41x  48.4 dB  99.99 %
  z             0             0   0.0x   inf dB        -
  output y: 41x rounding
  norms      1 of 2 the same
    norm bn_2: not the same at tensor relu_3 (41x rounding)
  runtime    folded.onnx is further from the truth than it may be
  output  error before  error after  allowed  close
  y              1e-07       0.0004    2e-07     no
  z                  0            0    1e-09    yes
  note: the input n was drawn from 0 to 9
  original   model.onnx
  judged     12 tensors in float64; up to 8.0x rounding is the same function
  feeds      normal x1, normal x30; seed 7"""
    )


def test_text_of_another_interface() -> None:
    text = verify_text(INTERFACE)
    assert text.startswith("<stdin>: not the same function as model.onnx: the inputs differ\n")
    assert "nothing was computed" in text
    assert "feeds" not in text


def test_text_says_by_what_was_judged() -> None:
    judged = {
        case: " ".join(
            re.findall(r"(?s)judged +(.*?)\n  feeds", verify_text(REPORTS[case]))[0].split()
        )
        for case in ("same", "onnxruntime", "a tolerance")
    }
    assert judged == {
        "same": "41 tensors in float64; up to 8.0x rounding is the same function",
        "onnxruntime": "41 tensors in onnxruntime; up to 8.0x rounding is the same function",
        "a tolerance": "the outputs in float64; within 0 + 0.001 |original|",
    }


def test_long_and_wide_names_keep_the_columns_straight() -> None:
    names = ["y", LONG, "größe", "出力" * 5, "two\nlines", "出力" * 30]
    checks = tuple(OutputCheck(name, "float32", True, 0.0, 0.0, 0.0, inf, None) for name in names)
    lines = verify_text(replace(SAME, outputs=checks)).splitlines()
    assert f"  {LONG}" in lines
    assert [line for line in lines if "two" in line] == [
        "  two lines" + " " * 12 + "       0             0   0.0x  inf dB       -"
    ]
    rows = [line for line in lines if line.endswith("inf dB       -")]
    assert len(rows) == len(names)
    widths = {len(row) + sum(letter in "出力" for letter in row) for row in rows}
    assert len(widths) == 1
    assert max(widths) <= 80


PLACES: dict[str, tuple[Difference, str]] = {
    "on another axis": (
        Difference("t", None, 3, 2, "zeros", 1.0, 2.0, 9.0),
        "first differs at tensor t, channel 3 of axis 2: 2 instead of 1 (9.0x rounding) on feed "
        "'zeros'",
    ),
    "without channels": (
        Difference("t", "bn", None, None, "zeros", inf, nan, inf),
        "first differs at tensor t, which belongs to norm bn: nan instead of inf (beyond any "
        "rounding) on feed 'zeros'",
    ),
    "as many digits as it takes": (
        Difference("t", None, None, None, "zeros", 1.0, 1.0000001, 9.0),
        "first differs at tensor t: 1.0000001 instead of 1 (9.0x rounding) on feed 'zeros'",
    ),
    "zeros of two signs": (
        Difference("t", None, None, None, "zeros", 0.0, -0.0, 0.0),
        "first differs at tensor t: -0 instead of 0 (0.0x rounding) on feed 'zeros'",
    ),
    "equal": (
        Difference("t", None, None, None, "zeros", 0.5, 0.5, 0.0),
        "first differs at tensor t: 0.5 instead of 0.5 (0.0x rounding) on feed 'zeros'",
    ),
}


@pytest.mark.parametrize("case", PLACES)
def test_place(case: str) -> None:
    difference, words = PLACES[case]
    assert place(difference) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04, "0.0x"),
        (1.13, "1.1x"),
        (41.3, "41x"),
        (1234.5, "1,234x"),
        (1e9, "1.0e+09x"),
        (inf, "inf"),
    ],
)
def test_units(value: float, text: str) -> None:
    assert units(value) == text


def test_a_share_is_100_percent_only_if_it_is_all() -> None:
    for share, shown in ((1.0, "100.00 %"), (1 - 1e-9, "99.99 %"), (0.5, "50.00 %"), (0.0, "0.00")):
        check = OutputCheck("y", "float32", True, 0.0, 0.0, 0.0, inf, share)
        assert shown in verify_text(replace(SAME, outputs=(check,)))


@pytest.mark.parametrize("case", REPORTS)
def test_json_follows_its_schema(case: str) -> None:
    whole = dumps(document("verify", [verify_json(REPORTS[case])], {"other.onnx": "is empty"}))
    report = json.loads(whole, parse_constant=pytest.fail)
    jsonschema.validate(report, SCHEMA)
    (model,) = report["models"]
    assert model["verdict"]["ok"] == REPORTS[case].is_same
    assert {"model", "original"} <= set(model)


def test_json_writes_what_it_has_no_number_for_as_text() -> None:
    (output,) = verify_json(REPORTS["infinite"])["outputs"]
    values = [output[key] for key in ("max_abs", "max_relative", "units", "snr_db")]
    assert values == ["inf", "nan", "inf", "-inf"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps({"value": inf})


WRONG: dict[str, dict[str, Any]] = {
    "an unknown field": {"more": 1},
    "another number": {"multiple": "many"},
    "no answer": {"verdict": {"summary": "yes"}},
    "a field of a fold": {"norms": [{"outcome": "kept"}]},
    "a negative tolerance": {"rtol": -1.0},
}


@pytest.mark.parametrize("case", WRONG)
def test_the_schema_is_strict(case: str) -> None:
    report = document("verify", [{**verify_json(SAME), **WRONG[case]}], {})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(dumps(report)), SCHEMA)


@pytest.mark.parametrize("command", ["fold", "explain", "check"])
def test_the_entry_of_one_command_is_not_that_of_another(command: str) -> None:
    report = document(command, [verify_json(SAME)], {})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(dumps(report)), SCHEMA)


def test_every_field_is_in_the_schema_and_in_the_docs() -> None:
    kinds = (VerifyReport, OutputCheck, NormCheck, Difference, RuntimeCheck, RuntimeOutput)
    names = {field.name for kind in kinds for field in fields(kind)}
    documented = set(re.findall(r"`(?:models\[\]\.)?\.?([a-z_]+)(?:\[\])?`", DOCS))
    assert names - {"is_same", "folded"} <= documented
    for name in ("verification", "verified_output", "verified_norm", "difference", "runtime"):
        entry = SCHEMA["$defs"][name]
        assert set(entry["required"]) == set(entry["properties"])


def parsed(xml: bytes) -> tuple[ElementTree.Element, dict[str, ElementTree.Element]]:
    root = ElementTree.fromstring(xml)
    assert root.tag == "testsuites"
    (suite,) = root
    cases = list(suite)
    assert {case.tag for case in cases} == {"testcase"}
    for counted in (root, suite):
        assert counted.get("tests") == str(len(cases))
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped",) * 2):
            found = sum(case.find(tag) is not None for case in cases)
            assert counted.get(attribute) == str(found), attribute
    names = {case.get("name", ""): case for case in cases}
    assert len(names) == len(cases)
    return suite, names


@pytest.mark.parametrize("case", REPORTS)
def test_junit_says_what_the_exit_status_says(case: str) -> None:
    report = REPORTS[case]
    suite, cases = parsed(junit_xml(report))
    assert (suite.get("failures") == "0") == report.is_same
    assert suite.get("errors") == "0"
    assert {case.get("classname") for case in cases.values()} == {report.folded}
    assert len(cases) == 2 + len(report.outputs) + len(report.norms)


def test_junit_of_a_difference() -> None:
    _, cases = parsed(junit_xml(DIFFERENT))
    failed = {name: case.find("failure") for name, case in cases.items()}
    assert [name for name, failure in failed.items() if failure is not None] == [
        "output y",
        "norm bn_2",
        "runtime",
    ]
    assert list(failed) == [
        "interface",
        *("output y", "output z", "norm bn_1", "norm bn_2"),
        "runtime",
    ]
    output, norm, runtime = failed["output y"], failed["norm bn_2"], failed["runtime"]
    assert output is not None
    assert output.get("message") == "41x rounding"
    assert "largest difference 0.0004, relative 0.0017, 41x rounding" in (output.text or "")
    assert norm is not None
    assert norm.text == "norm bn_2: not the same at tensor relu_3 (41x rounding)"
    assert runtime is not None
    assert "error before" in (runtime.text or "")


def test_junit_without_onnxruntime_skips_that_case() -> None:
    _, cases = parsed(junit_xml(replace(SAME, runtime=None)))
    assert cases["norm bn_2"].find("skipped") is not None  # it has no tensor
    skipped = cases["runtime"].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "not run"


def test_junit_has_a_failure_wherever_the_answer_is_no() -> None:
    no = replace(SAME, is_same=False, verdict="not the same", difference=DIFFERENT.difference)
    suite, cases = parsed(junit_xml(no))
    assert suite.get("failures") == "1"
    failure = cases["same function"].find("failure")
    assert failure is not None
    assert (failure.text or "").startswith("first differs at tensor relu_3")


def test_junit_has_no_failure_where_the_answer_is_yes() -> None:
    yes = replace(DIFFERENT, is_same=True)
    suite, cases = parsed(junit_xml(yes))
    assert suite.get("failures") == "0"
    assert cases["norm bn_2"].find("skipped") is not None


def test_junit_shows_what_xml_cannot_hold() -> None:
    strange = "a\x1b[31m<&\">'\0\ufffe\udce9\r ü \U0001f600"
    check = replace(DIFFERENT.outputs[0], name=strange, why=f"{strange}\nnext")
    _, cases = parsed(junit_xml(replace(DIFFERENT, folded=strange, outputs=(check,))))
    shown = "a\\x1b[31m<&\">'\\x00\\ufffe\\udce9\\r ü \U0001f600"
    case = cases[f"output {shown}"]
    assert case.get("classname") == shown
    failure = case.find("failure")
    assert failure is not None
    assert failure.get("message") == f"{shown}\nnext"


def test_junit_of_what_could_not_be_done() -> None:
    suite, cases = parsed(junit_error_xml("folded.onnx", "folded.onnx is empty\x00"))
    assert suite.get("errors") == "1"
    error = cases["verify"].find("error")
    assert error is not None
    assert error.get("message") == "folded.onnx is empty\\x00"
    assert cases["verify"].get("classname") == "folded.onnx"
