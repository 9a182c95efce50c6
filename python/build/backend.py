"""The build backend of pyproject.toml: maturin, told where libtorch lies.

Nothing has to be set. In this order: LIBTORCH where it is set; torch of the environment that is installed into; an earlier
download of scripts/setup.sh, or a new one. Building needs libtorch alone, not Python's torch: that is a requirement of the
package.
"""

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import maturin

ROOT = Path(__file__).resolve().parents[2]

Settings = dict[str, Any] | None


def _find_libtorch() -> None:
    """Sets LIBTORCH as scripts/setup.sh says, which checks its version too."""
    environment = dict(os.environ)
    # The environment's own packages are hidden from isolated builds, but lie where they lie.
    installed = Path(sysconfig.get_path("platlib")) / "torch"
    if not environment.get("LIBTORCH") and _is_right(installed):
        environment["LIBTORCH"] = str(installed)
    found = subprocess.run(
        ["bash", str(ROOT / "scripts" / "setup.sh")], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if found.returncode != 0:
        raise SystemExit("libtorch was not found; the reason is above")
    for line in found.stdout.splitlines():
        words = shlex.split(line)
        if words[:1] == ["export"]:
            name, _, value = words[1].partition("=")
            os.environ[name] = value
        elif words[:1] == ["unset"]:
            os.environ.pop(words[1], None)


def _is_right(torch: Path) -> bool:
    """Whether torch is there, in the version that the bindings are made for, with its headers."""
    try:
        version = (torch / "version.py").read_text()
    except OSError:
        return False
    needed = next(
        line.partition("=")[2]
        for line in (ROOT / "scripts" / "setup.sh").read_text().splitlines()
        if line.startswith("version=")
    )
    return f"__version__ = '{needed}" in version and (torch / "include").is_dir()


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    return list(maturin.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    return list(maturin.get_requires_for_build_editable(config_settings))


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    return list(maturin.get_requires_for_build_sdist(config_settings))


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    _find_libtorch()
    return str(maturin.build_wheel(wheel_directory, config_settings, metadata_directory))


def build_editable(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    _find_libtorch()
    return str(maturin.build_editable(wheel_directory, config_settings, metadata_directory))


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    return str(maturin.build_sdist(sdist_directory, config_settings))


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Settings = None) -> str:
    return str(maturin.prepare_metadata_for_build_wheel(metadata_directory, config_settings))


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel
