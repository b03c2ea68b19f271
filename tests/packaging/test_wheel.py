"""The wheel: what is in it, and that it runs away from the checkout (dependencies borrowed)."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=ROOT)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel; the dependencies come from the running one."""
    venv = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", venv, cwd=venv)
    install = (venv / "bin" / "python", "-m", "pip", "install", "-qq", "--no-deps", "--no-index")
    run(*install, "--disable-pip-version-check", wheel, cwd=venv)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = venv / "lib" / version / "site-packages"
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    package = ROOT / "onnxsqueeze"
    wanted = {
        str(path.relative_to(ROOT))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert found == wanted
    assert "onnxsqueeze/py.typed" in found


def test_command_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    version = run(installed / "bin" / "python", "-c", PRINT_VERSION, cwd=tmp_path)
    printed = run(installed / "bin" / "onnxsqueeze", "--version", cwd=tmp_path)
    assert version.strip() in printed


def test_package_is_imported_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = "import onnxsqueeze; print(onnxsqueeze.__file__)"
    found = run(installed / "bin" / "python", "-c", code, cwd=tmp_path).strip()
    assert Path(found).is_relative_to(installed)


PRINT_VERSION = "from importlib.metadata import version; print(version('onnxsqueeze'))"
