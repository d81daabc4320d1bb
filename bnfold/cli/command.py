"""Commands that take texts as they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command that reads a value only if that is not what it has to be already.

    Some versions of typer read every value with pydantic, whose import takes a quarter of the time
    of a small fold; others have no ``type_descriptor``, and nothing changes.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters, ``--help`` among them."""
        return _sparing(super().get_params(ctx))


class Group(TyperGroup):
    """The same for all commands together."""

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters, ``--help`` among them."""
        return _sparing(super().get_params(ctx))


def _sparing(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if hasattr(parameter, "type_descriptor") and "process_value" not in vars(parameter):
            parameter.process_value = partial(_value, parameter, parameter.process_value)
    return parameters


def _value(parameter: Any, read: Callable[[Any, Any], Any], context: Any, value: Any) -> Any:
    """The value of a parameter: text and defaults as they are, all else as ``read`` has it."""
    kind = parameter.type_descriptor.annotation
    found = value
    if value is None and not parameter.required and parameter.nargs == 1:
        found = () if parameter.multiple else None
    elif kind == list[str] and value and all(type(each) is str for each in value):
        found = list(value)
    elif kind not in (str, int, float, bool) or type(value) is not kind:
        return read(context, value)
    return found if parameter.callback is None else parameter.callback(context, parameter, found)
