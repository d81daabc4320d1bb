"""A verification as JUnit XML, which Jenkins, GitLab and GitHub show as tests."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from xml.etree import ElementTree

from bnfold.checking.outcome import VerifyReport
from bnfold.report.verify_text import (
    norm_sentence,
    output_sentence,
    place,
    runtime_table,
    verify_text,
)

SUITE = "bnfold verify"
_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(report: VerifyReport) -> bytes:
    """One test case for the interface, each output, each norm, and onnxruntime.

    A case fails only if the models are not the same function, so that the file says what the exit
    status says. Where they are, a part that was judged otherwise is a case that was skipped.
    """
    bad = "skipped" if report.is_same else "failure"
    cases = [_case(report, "interface", "; ".join(report.interface), bad, report.interface)]
    for output in report.outputs:
        text = output_sentence(output)
        wrong = "" if output.is_same else output.why or "not the same"
        cases.append(_case(report, f"output {output.name}", wrong, bad, [text]))
    for norm in report.norms:
        text = norm_sentence(norm)
        is_judged = norm.tensor is not None or not norm.is_same
        wrong = "" if norm.is_same and is_judged else text
        tag = bad if is_judged else "skipped"
        cases.append(_case(report, f"norm {norm.norm}", wrong, tag, [text]))
    if report.runtime is None:
        cases.append(_case(report, "runtime", "not run", "skipped"))
    else:
        wrong = "" if report.runtime.is_good else report.runtime.summary
        lines = [report.runtime.summary, *runtime_table(report.runtime)]
        cases.append(_case(report, "runtime", wrong, bad, lines))
    if not report.is_same and not any(case.find("failure") is not None for case in cases):
        lines = [place(report.difference)] if report.difference else verify_text(report).split("\n")
        cases.append(_case(report, "same function", report.verdict, bad, lines))
    return _document(cases)


def junit_error_xml(folded: str, message: str) -> bytes:
    """The one test case of a verification that could not be done.

    Args:
        folded: what the model is called.
        message: why.
    """
    case = ElementTree.Element("testcase", classname=_visible(folded), name="verify")
    error = ElementTree.SubElement(case, "error", message=_visible(message))
    error.text = _visible(message)
    return _document([case])


def _case(
    report: VerifyReport, name: str, wrong: str, tag: str, lines: Sequence[str] = ()
) -> ElementTree.Element:
    """One test case; it passes where ``wrong`` is empty."""
    case = ElementTree.Element("testcase", classname=_visible(report.folded), name=_visible(name))
    if wrong:
        found = ElementTree.SubElement(case, tag, message=_visible(wrong))
        found.text = _visible("\n".join(lines))
    return case


def _document(cases: Sequence[ElementTree.Element]) -> bytes:
    tags = Counter(result.tag for case in cases for result in case)
    counts = {
        "name": SUITE,
        "tests": str(len(cases)),
        "failures": str(tags["failure"]),
        "errors": str(tags["error"]),
        "skipped": str(tags["skipped"]),
    }
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", counts)
    suite.extend(cases)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _visible(text: str) -> str:
    """A text with characters that XML 1.0 cannot hold as escapes, such as ``\\x1b``."""
    return _NOT_XML.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)
