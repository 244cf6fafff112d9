"""The package that is built is the one on disk: list, links, lazy names, and a wheel that works elsewhere."""

import ast
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import dompbus

ROOT = Path(__file__).parents[2]
LINKED = ("brokers", "clients", "ledger", "sessions")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages_on_disk() -> list[str]:
    folders = {"dompbus": ROOT / "dompbus"} | {f"dompbus.{name}": ROOT / name for name in LINKED}
    found = []
    for name, folder in folders.items():
        for init in folder.rglob("__init__.py"):
            inside = init.parent.relative_to(folder)
            if name == "dompbus" and inside.parts[:1] in [(linked,) for linked in LINKED]:
                continue  # through the link
            found.append(".".join((name, *inside.parts)))
    return sorted(found)


def test_the_list_of_packages_is_what_lies_on_disk() -> None:
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == packages_on_disk()


def test_every_folder_with_code_is_a_package() -> None:
    for top in ("dompbus", *LINKED):
        for module in (ROOT / top).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), module


def test_the_links_exist_and_are_relative() -> None:
    directories = PROJECT["tool"]["setuptools"]["package-dir"]
    for name in LINKED:
        link = ROOT / "dompbus" / name
        assert link.is_symlink()
        assert link.readlink() == Path("..") / name
        assert directories[f"dompbus.{name}"] == name


def test_lazy_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse((ROOT / "dompbus" / "__init__.py").read_text())
    [checked] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname or alias.name: statement.module
        for statement in checked.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    table = {name: home for home, names in dompbus._HOMES.items() for name in names}
    assert table == seen
    assert dompbus.__all__ == sorted(table, key=dompbus.__all__.index)
    assert sorted(dompbus.__all__) == sorted(table)


@pytest.mark.parametrize("name", dompbus.__all__)
def test_every_public_name_can_be_had_and_is_documented(name: str) -> None:
    value = getattr(dompbus, name)
    assert value.__doc__
    assert name in dir(dompbus)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        dompbus.nonsense  # noqa: B018 - the access is the test


def test_the_version_is_one() -> None:
    assert dompbus.__version__ == PROJECT["project"]["version"]


PROBE = """
import dompbus, dompbus.ledger, dompbus.clients.cli.main, pathlib
assert "site" in dompbus.__file__, dompbus.__file__
with dompbus.Node(listen="memory://wheel") as node, dompbus.Client(node.endpoint) as client:
    node.service("echo")(lambda value: value)
    assert client.request("echo", 1) == 1
with dompbus.embedded(data="book") as client:
    assert client.ledger.lookup_accounts([1]) == []
print("works")
"""


@pytest.mark.slow
def test_a_wheel_built_from_the_source_distribution_works(tmp_path: Path) -> None:
    """From an archive, as others build it: links are gone there, and every module is in the wheel once."""
    dist = tmp_path / "dist"
    copy = tmp_path / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    names = [name for name in tracked.decode().split("\0") if name.split("/")[0] in ("dompbus", *LINKED)]
    for name in [*names, "pyproject.toml", "README.md", "LICENSE"]:
        source, target = ROOT / name, copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(source.readlink())
        elif source.exists():
            target.write_bytes(source.read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(copy)],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    [wheel], [archive] = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with tarfile.open(archive) as sdist:
        assert any(name.endswith("/clients/aio.py") for name in sdist.getnames())
    with zipfile.ZipFile(wheel) as content:
        modules = sorted(name for name in content.namelist() if name.endswith(".py"))
        assert "dompbus/py.typed" in content.namelist()
        content.extractall(tmp_path / "site")
    expected = sorted(
        {name if name.startswith("dompbus/") else f"dompbus/{name}" for name in names if name.endswith(".py")}
    )
    assert modules == expected
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r})\n{PROBE}"],
        cwd=tmp_path, capture_output=True, check=False, text=True, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("works\n", "", 0)
