"""What ``pip install .`` installs: every file of the package, and the command ``ssn-feat``, without the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

from ssn_feat import __version__, commands

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources: building leaves files beside them."""
    pytest.importorskip("setuptools", minversion="77")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "ssn_feat", source / "ssn_feat", ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source))
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed into it and nothing else."""
    target = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--target", str(target), str(wheel))
    return target


def pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, "--quiet", "--no-index", "--disable-pip-version-check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def python(installed: Path, *arguments: str) -> str:
    """Run Python with the installed folder; -S keeps the path files of an editable installation out."""
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    done = subprocess.run(
        [sys.executable, "-S", *arguments], cwd=installed, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), *packages]), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_file_of_the_package_is_in_it(wheel: Path) -> None:
    package = ROOT / "ssn_feat"
    there = {str(p.relative_to(ROOT)) for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name} == there
    assert "ssn_feat/py.typed" in there
    assert not [name for name in there if "bench" in name or "speed" in name]


def test_it_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("METADATA"))
    assert f"\nVersion: {__version__}\n" in metadata
    assert "\nLicense-Expression: MIT\n" in metadata
    assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())


def test_the_command_works_without_the_repository(installed: Path) -> None:
    assert python(installed, "bin/ssn-feat", "--help").strip() == commands.COMMANDS.usage("ssn-feat")
    assert python(installed, "bin/ssn-feat", "propose", "--help").startswith("usage: ssn-feat propose ")
    where = python(installed, "-c", "import ssn_feat; print(ssn_feat.__file__)")
    assert Path(where.strip()).is_relative_to(installed)


def test_versions_agree() -> None:
    assert PROJECT["version"] == __version__
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    newest = re.search(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__.removesuffix(".dev0")


def test_environment_yml_installs_what_the_project_asks_for() -> None:
    import yaml

    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == "ssn_feat"
    (python_version,) = (d for d in environment["dependencies"] if isinstance(d, str) and d.startswith("python="))
    minor = python_version.removeprefix("python=")
    assert f"Programming Language :: Python :: {minor}" in PROJECT["classifiers"]
    (by_pip,) = (d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    extras = {extra for line in by_pip for extra in re.findall(r"\[(.*)\]", line)[0].split(",")}
    assert extras <= set(PROJECT["optional-dependencies"])
    assert "pip" in environment["dependencies"]
