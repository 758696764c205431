"""Wheels for a machine without internet: tiebreak's own, made of what is installed here, and those it needs."""

import base64
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import tiebreak
from tiebreak.errors import TiebreakError

LEFT_OUT = frozenset({"torch"})
"""What a machine with a GPU has of its own, in the build for its driver."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64")


def write_own(folder: Path) -> Path:
    """Write the wheel of the tiebreak that runs here, whether it was installed or is a checkout. Returns its path."""
    name = f"tiebreak-{tiebreak.__version__}"
    about = importlib.metadata.distribution("tiebreak")
    package = Path(tiebreak.__file__).parent
    files = {
        f"tiebreak/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in sorted(_files(package))
    }
    metadata = re.sub(
        r"(?m)^Version: .*$", f"Version: {tiebreak.__version__}", str(about.read_text("METADATA")), count=1
    )
    files[f"{name}.dist-info/METADATA"] = metadata.encode()
    files[f"{name}.dist-info/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: tiebreak\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{name}.dist-info/entry_points.txt"] = str(about.read_text("entry_points.txt")).encode()
    record = f"{name}.dist-info/RECORD"
    lines = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in files.items()]
    files[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    wheel = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            archive.writestr(
                zipfile.ZipInfo(path), data, zipfile.ZIP_DEFLATED
            )  # without times: the same bytes again
    return wheel


def _files(folder: Path) -> Iterator[Path]:
    """The files of a package, and those in folders that a checkout links to."""
    for place, folders, names in os.walk(folder, followlinks=True):
        if "__pycache__" in folders:
            folders.remove("__pycache__")
        yield from (Path(place, name) for name in names)


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def requirements() -> list[str]:
    """What the core of tiebreak needs, but for what is left out."""
    needed = [line for line in importlib.metadata.requires("tiebreak") or () if "extra ==" not in line]
    return [line for line in needed if _name(line) not in LEFT_OUT]


def download(folder: Path, python: str, image: Path | None) -> None:
    """Download with pip what the core needs, for Linux on x86-64 and this version of Python.

    image: what that machine has, as `pip freeze` prints it: versions go with it, and what is the same there is left out.
    Raises TiebreakError for what pip refuses, as without internet.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    ]
    command += ["--only-binary", ":all:", "--python-version", python, "--dest", str(folder)]
    command += [part for platform in PLATFORMS for part in ("--platform", platform)]
    command += ["--constraint", str(image)] if image else []
    done = subprocess.run([*command, *requirements()], capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise TiebreakError(
            f"pip could not download wheels for Python {python}: {why}",
            "where there is no network, name a folder of them with --wheels; elsewhere they come by: "
            f"pip download --only-binary :all: --python-version {python} --platform {PLATFORMS[0]} -d wheels "
            + " ".join(f"'{line}'" for line in requirements()),
        )
    if image:
        there = _pins(image)
        for wheel in folder.glob("*.whl"):
            if wheel.name.split("-")[1] == there.get(_name(wheel.name.split("-")[0])):
                wheel.unlink()


def copy(source: Path, folder: Path) -> None:
    """Copy the wheels of a folder, but those of tiebreak itself. Raises TiebreakError if there are none."""
    wheels = [path for path in sorted(source.glob("*.whl")) if not path.name.startswith("tiebreak-")]
    if not wheels:
        raise TiebreakError(
            f"--wheels {source} holds no .whl files; it takes what `pip download -d` has filled"
        )
    for wheel in wheels:
        shutil.copyfile(wheel, folder / wheel.name)


def _pins(freeze: Path) -> dict[str, str]:
    pins = re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", freeze.read_text(encoding="utf-8"))
    return {_name(name): version for name, version in pins}


def _name(requirement: str) -> str:
    """The normalised name of a requirement or a wheel's project."""
    found = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", found[0] if found else "").lower()
