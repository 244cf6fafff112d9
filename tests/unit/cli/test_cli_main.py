"""Whatever happens inside a command, the user gets one line and a meaningful exit code."""

import os
import resource
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import typer

import dompbus
from dompbus import errors
from dompbus.clients.cli import main as cli
from dompbus.clients.cli.__main__ import entry
from dompbus.clients.cli.lazy import lazy_group

ROOT = Path(__file__).parents[3]


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `dompbus config` raise `error`."""

    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("dompbus.config_sources.load", load)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (errors.ConfigError("no such key"), 2, "dompbus: no such key\n"),
        (errors.EndpointError("port in use"), 2, "dompbus: port in use\n"),
        (errors.InvalidTopic("a..b"), 2, "dompbus: a..b\n"),
        (errors.Unreachable("nobody there"), 1, "dompbus: nobody there\n"),
        (errors.StorageError("disk\nfull"), 1, "dompbus: disk full\n"),
        (ZeroDivisionError("oops"), 1, "dompbus: internal error: ZeroDivisionError: oops. Please report it"),
        (KeyboardInterrupt(), 130, ""),
        (typer.Exit(7), 7, ""),
    ],
)
def test_errors_become_one_line_and_a_code(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 for the user's mistakes, 1 for failures, 130 when interrupted; never a stack trace."""
    fail_with(error, monkeypatch)
    assert cli.main(["config"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert err.count("\n") == (1 if said else 0)
    assert "Traceback" not in err


def test_an_error_may_bring_its_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of a command's own, as of a malformed input file, say themselves that they are the user's."""

    class InputError(errors.DompbusError):
        exit_code = 2

    fail_with(InputError("line 3"), monkeypatch)
    assert cli.main(["config"]) == 2


def test_debug_shows_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """--debug is understood anywhere and lets the error through."""
    fail_with(errors.Unreachable("nobody there"), monkeypatch)
    with pytest.raises(errors.Unreachable):
        cli.main(["config", "--debug"])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["serv"], "dompbus: No such command 'serv'. Did you mean 'serve'? See 'dompbus --help'\n"),
        (["serve", "--bogus"], "dompbus: No such option: --bogus. See 'dompbus serve --help'\n"),
        (["ledger", "accounts", "--limit", "many"], "See 'dompbus ledger accounts --help'\n"),
        (["--debug", "bogus"], "dompbus: No such command 'bogus'. See 'dompbus --help'\n"),
    ],
)
def test_misuse_names_the_help(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong arguments: one line, the way to the help, exit code 2."""
    assert cli.main(argv) == 2
    assert capsys.readouterr().err.endswith(said)


@pytest.mark.parametrize("argv", [[], ["--help"], ["ledger"], ["demo"], ["demo", "--help"], ["config", "--help"]])
def test_help(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A group alone shows its help and is no mistake."""
    assert cli.main(argv) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Usage: dompbus")
    assert err == ""


def test_help_is_fast_and_loads_nothing_heavy() -> None:
    """`dompbus --help` takes at most 0.3 s: no socket library, no tables, no asyncio."""
    code = (
        "import sys; from dompbus.clients.cli.main import main; code = main(['--help'])\n"
        "print(sorted({'zmq', 'rich', 'asyncio', 'prometheus_client', 'numpy', 'http.server'} & set(sys.modules)))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert done.stdout.endswith("\n[]\n")
    assert "  trading" not in done.stdout
    assert "replay " in done.stdout
    assert spent <= 0.3  # processor time, so that a busy machine does not fail the test


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version names the program and the version that its code carries."""
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"dompbus {dompbus.__version__}\n"


@pytest.mark.parametrize("printer", ["config.print_line", "print"], ids=["flushed", "buffered"])
def test_a_reader_that_leaves_is_no_error(printer: str) -> None:
    """`dompbus … | head -1` prints no complaint, whether the pipe breaks at a line or at the end."""
    code = (
        "import sys; from dompbus.clients.cli import config, main\n"
        f"config.print_line = {printer}; sys.exit(main.main(['config']))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, timeout=30, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def command(count: int, *, loud: bool = False) -> None:
    """The lazily loaded function of the test below."""
    typer.echo(f"{count} {'LOUD' if loud else 'quiet'}")


def test_lazy_commands_take_their_options_from_the_function(capsys: pytest.CaptureFixture[str]) -> None:
    """Listed by the given line; loaded, with the function's signature, only when run."""
    app = typer.Typer(
        cls=lazy_group({"real": (f"{__name__}:command", "Does it."), "absent": ("no.such.module:f", "Is absent.")}),
        rich_markup_mode=None,
    )
    app.callback()(lambda: None)
    app(["--help"], standalone_mode=False)
    assert "absent  Is absent." in capsys.readouterr().out
    app(["real", "3", "--loud"], standalone_mode=False)
    assert capsys.readouterr().out == "3 LOUD\n"
    app(["real", "--help"], standalone_mode=False)
    assert "The lazily loaded function" in capsys.readouterr().out
    with pytest.raises(ModuleNotFoundError):
        app(["absent"], standalone_mode=False)


def _shell(line: str) -> "subprocess.CompletedProcess[str]":
    """Run a shell line in which `$D` is the command."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "D": f"{sys.executable} -m dompbus.clients.cli"}
    return subprocess.run(["sh", "-c", line], env=env, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("argv", ["config", "config --json", "--help", "config --help", "--version"])
def test_a_full_disk_is_named(argv: str) -> None:
    """An answer that cannot be written is one clear line, and nothing more at exit."""
    done = _shell(f"$D {argv} > /dev/full")
    assert (done.returncode, done.stderr) == (1, "dompbus: cannot write the answer: No space left on device\n")


@pytest.mark.parametrize("argv", ["config >&-", "config --json >&-", "--help >&-", "config <&- >/dev/null"])
def test_closed_streams(argv: str) -> None:
    """Who closes a standard stream does without it."""
    done = _shell(f"$D {argv}")
    assert (done.returncode, done.stderr) == (0, "")
    assert _shell("$D bogus 2>&-").returncode == 2


def test_errors_do_not_command_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a file or an argument smuggles into an error is spelled out."""
    fail_with(errors.ConfigError("key \x1b[31m\x9b\u202e"), monkeypatch)
    assert cli.main(["config"]) == 2
    assert capsys.readouterr().err == "dompbus: key \\x1b[31m\\x9b\\u202e\n"


def test_interrupted_while_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before the command is even there: exit code 130 and no trace."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    loads = ModuleType("dompbus.clients.cli.main")
    loads.__getattr__ = lambda _name: interrupted()  # type: ignore[method-assign]  # a module's own hook
    monkeypatch.setitem(sys.modules, "dompbus.clients.cli.main", loads)
    assert entry() == 130
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"dompbus": f"{entry.__module__}:entry"}
