"""What flags take: one of a few words, bytes, names of passes, ratios, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from ..errors import UsageError, unknown_name
from ..plugins import function, is_path
from ..settings.spellings import spelled
from ..settings.table import OPTIONS
from .files import also_read


class OneOf(click.Choice[Any]):
    """One of a few values; a mistake names the nearest."""

    def __init__(self, *values: str | int) -> None:
        super().__init__(values)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value of that name."""
        value = spelled(str(param.name) if param else "", value)
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            raise unknown_name(_flag(param), str(value), map(str, self.choices)) from None


class Bytes(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A number of bytes, with a unit or without."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        if isinstance(value, int):
            return value
        text = str(value).strip().upper().removesuffix("B").removesuffix("I")
        power = "KMG".find(text[-1:]) + 1 if text[-1:] else 0
        try:
            return int(float(text[:-1] if power else text) * 1024**power)
        except (ValueError, OverflowError):
            raise UsageError(
                f"{_flag(param).removeprefix('value of --')}: found '{value}', expected bytes such as 2G"
            ) from None


class Pass(click.Option):
    """An option that takes the name of a registered pass; help and mistakes list those there are."""

    def __init__(self, declarations: Sequence[str], **settings: Any) -> None:
        super().__init__(declarations, **{"metavar": "NAME", "show_default": True, **settings})

    def registered(self) -> list[str]:
        """Names of the passes of the kind that the option is called after."""
        from ..scoring.registry import names

        return names(str(self.name))

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Add the names to the help."""
        flag, text = super().get_help_record(ctx) or ("", "")
        return flag, f"{text}  One of: {', '.join(self.registered())}."

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Refuse a name that nothing is registered under; a function by its place need not be."""
        if is_path(value):
            function(value, str(self.name))
            return super().process_value(ctx, value)
        value = spelled(str(self.name), value)
        plain = value.replace("-", "_") if isinstance(value, str) else value
        value = plain if plain in self.registered() else value
        if value is not None and value not in self.registered():
            raise unknown_name(_flag(self), value, self.registered())
        return super().process_value(ctx, value)


class Criterion(Pass):
    """A registered criterion, or scores that are given in a file."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Let the path of an .npz file pass."""
        if str(value).endswith(".npz"):
            return value
        return super().process_value(ctx, value)


def ratio(context: click.Context, param: click.Parameter, value: Any) -> Any:
    """A number, or ratios by layer from a TOML file or a table of the configuration."""
    if value is None or isinstance(value, Mapping) or str(value).endswith(".toml"):
        return table(context, param, value)
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither a number nor a .toml file", context, param) from None


def number_or_name(context: click.Context, param: click.Parameter, value: Any) -> Any:
    """A number where it is one, else the text, as far as the setting allows it."""
    number = isinstance(value, str) and value.lstrip("-").isdecimal()
    found = int(value) if number else value
    OPTIONS[str(param.name)].refuse(found)
    return found


def table(context: click.Context, param: click.Parameter, value: Any) -> Any:
    """A table of the configuration, or a TOML file that is one or holds it under the flag's name."""
    if value is None or isinstance(value, Mapping):
        return value
    from ..selection.config import read_toml

    also_read(context, value)
    found, name = read_toml(value), str(param.name)
    if not isinstance(found.get(name), dict):
        return found
    if others := sorted(found.keys() - {name}):
        raise UsageError(
            f"{name}: '{value}' holds '{others[0]}' beside the table [{name}], expected that table alone",
            "Settings of several kinds go with --config.",
        )
    return found[name]


def _flag(param: click.Parameter | None) -> str:
    return f"value of {param.opts[-1]}" if param else "value"
