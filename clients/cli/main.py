"""The app `dompbus` and its door: whatever happens inside, the user gets one clear line and a meaningful exit code.

Exit codes: 0 done, 1 failed, 2 a mistake in what was asked (arguments, configuration, input), 130 interrupted. The law
here: importing this module loads no socket library and no table printer; each command imports what it needs when it
runs, so that `dompbus --help` answers at once.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from dompbus.clients.cli import config, ledger, serve
from dompbus.clients.cli.lazy import lazy_group
from dompbus.clients.cli.output import AnswerLost, finish, printable
from dompbus.errors import ConfigError, DompbusError, EndpointError, InvalidMessage, InvalidTopic

__all__ = ["app", "main"]

DONE: Final = 0
FAILED: Final = 1
MISTAKE: Final = 2
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it
_MISTAKES: Final = (ConfigError, EndpointError, InvalidTopic, InvalidMessage)

_Refusal: Final[Any] = typer.BadParameter.__mro__[2]  # ClickException: typer has its own copy or click's, by version

app = typer.Typer(
    cls=lazy_group(
        {
            "replay": (
                "dompbus.clients.replay.command:replay_command",
                "Publish a trade file on the bus and settle it in the ledger.",
            ),
        }
    ),
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="The message bus that trading engines and game servers embed, with a durable ledger.",
)
demo = typer.Typer(
    cls=lazy_group(
        {
            "trading": (
                "dompbus.clients.replay.command:demo_command",
                "A real market over the bus into the ledger, checked to the last digit.",
            ),
        }
    ),
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dompbus {importlib.import_module('dompbus').__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    _debug: Annotated[bool, typer.Option("--debug", help="Show the stack trace of an error; for any command.")] = False,
) -> None:
    _help_alone(ctx)


def _help_alone(ctx: typer.Context) -> None:
    """A group without a command shows its help."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


app.command("serve")(serve.serve_command)
app.command("config")(config.config_command)
for _name, _group, _help in (
    ("ledger", ledger.app, "What a running node's ledger holds."),
    ("demo", demo, "Demonstrations that need nothing but this machine."),
):
    app.add_typer(_group, name=_name, help=_help, callback=_help_alone, invoke_without_command=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit code; never raises, unless --debug is among the arguments."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    _open_closed_streams()
    try:
        code = _run([a for a in arguments if a != "--debug"])
        finish()
        return code if isinstance(code, int) else DONE
    except BrokenPipeError:
        return _drop_output()  # `dompbus … | head`: not worth a word
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else FAILED
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:
        if debug and not isinstance(error, _Refusal):
            raise
        if isinstance(error, AnswerLost):
            _drop_output()
        text, code = _explain(error)
        print(f"dompbus: {printable(text)}", file=sys.stderr)
        return code


def _run(arguments: list[str]) -> Any:
    try:
        return app(args=arguments, prog_name="dompbus", standalone_mode=False)
    except OSError as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is not None and trace.tb_frame.f_code.co_name == "echo" and not isinstance(error, BrokenPipeError):
            raise AnswerLost(f"cannot write the answer: {error.strerror}") from error  # a help page, say
        raise


def _explain(error: Any) -> tuple[str, int]:
    """One line for the user, and the exit code."""
    if isinstance(error, _Refusal):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "dompbus"
        cause = error.format_message().replace("?.", "?").rstrip(".")
        return f"{cause}{'' if cause.endswith('?') else '.'} See '{path} --help'", MISTAKE
    if isinstance(error, DompbusError):
        code = getattr(error, "exit_code", MISTAKE if isinstance(error, _MISTAKES) else FAILED)
        return " ".join(str(error).split("\n")), code
    name = type(error).__name__
    return f"internal error: {name}: {error}. Please report it, with the trace that --debug shows", FAILED


def _drop_output() -> int:
    """Nothing more may fail at exit for standard output, which is lost."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED


def _open_closed_streams() -> None:
    """Who closed a standard stream (`>&-`) does not want it; but no file of ours may take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  -- until the process ends
