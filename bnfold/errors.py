"""The exception tree, and the exit status that each class stands for.

Status 0 is yes, 1 is no, 2 is could not (an exception of this file), 3 is a bug of bnfold's
(``VerificationError``, and any exception that is not of this file).
"""

from __future__ import annotations

YES = 0
NO = 1
COULD_NOT = 2
BUG = 3
INTERRUPTED = 130


class BnfoldError(Exception):
    """What was asked for could not be done; the message is one line that names the thing.

    Base class of every exception that bnfold raises on purpose.
    """

    exit_status: int = COULD_NOT


class ModelError(BnfoldError):
    """The model is damaged, or contradicts itself or the ONNX specification."""


class FileError(BnfoldError):
    """A file could not be read or written; nothing was half written."""


class UsageError(BnfoldError):
    """The arguments contradict each other or name something that does not exist."""


class VerificationError(BnfoldError):
    """A fold did not pass its own check, so nothing was written: a bug of bnfold's."""

    exit_status = BUG
