"""Commands whose code is loaded when they are run, so that `dompbus --help` stays fast.

The law here: a group knows of a lazy command only its name, one line of help and where its function lives; options
come from that function's own signature when the command is used.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperGroup

__all__ = ["lazy_group"]


def lazy_group(commands: Mapping[str, tuple[str, str]]) -> type[TyperGroup]:
    """A group class for `typer.Typer(cls=...)` with `commands`: name -> ("module:function", one line of help)."""

    class LazyGroup(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return [*super().list_commands(ctx), *commands]

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            """For listings: a lazy command's line of help. `resolve_command` gives the real one."""
            if cmd_name in commands:
                return _command(cmd_name, lambda: None, commands[cmd_name][1])
            return super().get_command(ctx, cmd_name)

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            if args and args[0] in commands:
                target, summary = commands[args[0]]
                module, _, function = target.partition(":")
                return args[0], _command(args[0], getattr(importlib.import_module(module), function), summary), args[1:]
            return super().resolve_command(ctx, args)

    return LazyGroup


def _command(name: str, function: Any, summary: str) -> Any:
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command(name, help=None if function.__doc__ else summary, short_help=summary)(function)
    return typer.main.get_command(app)
