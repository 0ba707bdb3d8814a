"""The versions that ``pyproject.toml`` promises, each in an environment of its own: ``nox -s SESSION``.

Every environment holds its own PyTorch, 5 to 6 GB: run one session at a time. Options after ``--`` go to pytest:
``nox -s newest-3.13 -- -x tests/heads``.
"""

import re
import tomllib
from pathlib import Path

import nox

nox.options.sessions = ["newest-3.12"]
nox.options.default_venv_backend = "venv"

PYTHONS = ["3.11", "3.12", "3.13"]
PROJECT = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text())["project"]


def lowest(requirements: list[str]) -> list[str]:
    """``name==X`` for every requirement that says ``name>=X``; those pinned already as they are."""
    return [re.sub(r">=([^,]+).*", r"==\1", requirement) for requirement in requirements]


def run_tests(session: nox.Session, headless: str = "opencv-python-headless") -> None:
    """The suite, two processes of one thread each. ``headless``: the OpenCV to take where there is no libGL."""
    # A bare server has no libGL, which opencv-python links to.
    if "libGL" in str(session.run("python", "-c", "import cv2", success_codes=[0, 1], silent=True)):
        session.run("pip", "uninstall", "--yes", "opencv-python")
        session.install(headless)
    session.run("python", "-m", "pytest", "-n", "2", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(python=PYTHONS)
def newest(session: nox.Session) -> None:
    """The newest of every dependency."""
    session.install("--editable", ".[demo,dev]")
    run_tests(session)


@nox.session(python="3.11")
def oldest(session: nox.Session) -> None:
    """The oldest of every dependency that the project says it works with, all at once."""
    pinned = lowest([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["demo"]])
    session.install(*pinned, "--editable", ".[demo,dev]")
    (opencv,) = (each for each in pinned if each.startswith("opencv-python=="))
    run_tests(session, opencv.replace("opencv-python", "opencv-python-headless"))


@nox.session(python="3.12")
@nox.parametrize("zarr", ["3.1.0", "newest"])
@nox.parametrize("torch", ["2.6.0", "newest"])
def mixed(session: nox.Session, torch: str, zarr: str) -> None:
    """Oldest and newest PyTorch with oldest and newest Zarr: what people have is rarely all old or all new."""
    torchvision = "0.21.0" if torch == "2.6.0" else "newest"
    chosen = {"torch": torch, "torchvision": torchvision, "zarr": zarr}
    pinned = [f"{name}=={version}" for name, version in chosen.items() if version != "newest"]
    session.install(*pinned, "--editable", ".[demo,dev]")
    run_tests(session)


@nox.session(python="3.12")
def audit(session: nox.Session) -> None:
    """Known vulnerabilities of all that an installation pulls in; asks the advisory data base over the network."""
    session.install(".[demo,hdf5,s3,dask,report]", "pip-audit")
    installed = str(session.run("pip", "freeze", "--all", "--exclude", "ssn-feat", silent=True))
    listed = Path(session.create_tmp()) / "installed.txt"
    # The data base knows releases, not builds of them such as 2.6.0+cpu.
    listed.write_text(re.sub(r"\+[\w.]+$", "", installed, flags=re.MULTILINE))
    # Without --strict what could not be asked for is passed over: an audit that reached nothing would succeed.
    session.run("pip-audit", "--strict", "--no-deps", "--disable-pip", "--requirement", str(listed), *session.posargs)


@nox.session(python="3.12")
def docs(session: nox.Session) -> None:
    """The site of docs/, with every warning an error."""
    session.install("--editable", ".[docs]")
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})
