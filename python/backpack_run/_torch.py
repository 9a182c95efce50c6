"""The torch that this package computes with: which version is installed, and its libraries without its Python part."""

import ctypes
import importlib.util
import re
from pathlib import Path

VERSION = "2.13.0"
REMEDY = f"install it with `pip install torch=={VERSION}`, or build backpack-run for another one from a checkout that names it"


def folder() -> Path:
    """Where torch is installed, without importing it.

    Raises ImportError where it is not.
    """
    spec = importlib.util.find_spec("torch")
    for place in (spec and spec.submodule_search_locations) or []:
        if (Path(place) / "version.py").is_file():
            return Path(place)
    raise ImportError(f"backpack_run needs torch {VERSION}, and this Python has none: {REMEDY}")


def check() -> None:
    """Refuses any torch but the one whose binary interface this package was built for.

    Raises ImportError for another version: its libraries would lack symbols, or crash.
    """
    place = folder()
    found = re.search(r"^__version__ = '([^'+]+)", (place / "version.py").read_text(), re.MULTILINE)
    version = found[1] if found else "of an unknown version"
    if version != VERSION:
        raise ImportError(f"backpack_run needs torch {VERSION} exactly, and {place} is torch {version}: {REMEDY}")


def load_libraries() -> None:
    """Loads torch's libraries for the extension module, at a fraction of what `import torch` takes.

    CUDA's only where there is a driver. Where the libraries do not find their own, torch itself knows more places.
    """
    libraries = folder() / "lib"
    names = ["libc10.so", "libtorch_cpu.so"]
    try:
        ctypes.CDLL("libcuda.so.1")
        names += ["libtorch_cuda.so"] if (libraries / "libtorch_cuda.so").exists() else []
    except OSError:
        pass
    try:
        for name in names:
            ctypes.CDLL(str(libraries / name), mode=ctypes.RTLD_GLOBAL)
    except OSError:
        importlib.import_module("torch")
