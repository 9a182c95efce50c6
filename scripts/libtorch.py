#!/usr/bin/env python3
"""Finds libtorch in this Python, or keeps a copy of it in a cache folder; called by setup.sh.

    libtorch.py installed   prints the folder of an installed torch of the right version; exit 1 without one
    libtorch.py cached      prints the folder in the cache, after fetching it where it is missing or damaged

Only the standard library and pip are used. The result goes to stdout, everything else to stderr.
"""

import argparse
import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

VERSION = "2.13.0"
REQUIREMENTS = Path(__file__).resolve().parent / "libtorch-requirements.txt"
MANIFEST = "manifest.json"
MIB = 1 << 20
# Wheel and pip's own copy of it while it arrives, then wheel and unpacked libraries.
SPACE_TO_FETCH = 1700 * MIB
SPACE_TO_UNPACK = 700 * MIB
# Libraries of the torch wheel that computing on the CPU does without.
NOT_NEEDED = ("cuda", "python", "nvshmem", "nvrtc", "shm", "global_deps")
EXIT_ENVIRONMENT = 3


class SetupError(Exception):
    """What went wrong and what to do, for the user."""


def say(text):
    print(f"setup: {text}", file=sys.stderr, flush=True)


class Target:
    """What the wheels for this machine are called, and which of them it needs."""

    def __init__(self):
        system, machine = platform.system(), platform.machine()
        self.name = f"{system.lower()}-{machine.lower()}"
        if system == "Linux" and machine in ("x86_64", "aarch64"):
            library, version = platform.libc_ver()
            if library != "glibc" or tuple(map(int, version.split(".")[:2])) < (2, 28):
                raise SetupError(
                    f"the prebuilt libtorch needs glibc 2.28 or later, and this system has {library or 'another C library'} "
                    f"{version}. Build libtorch {VERSION} from source and set LIBTORCH to its folder."
                )
            tags = ("manylinux_2_28", "manylinux_2_25", "manylinux_2_17", "manylinux2014")
            self.platforms = [f"{tag}_{machine}" for tag in tags]
            self.packages = ["torch", "nvidia-cuda-runtime", "nvidia-cuda-cupti"]
            self.library = "libtorch_cpu.so"
        elif system == "Darwin" and machine == "arm64":
            self.platforms = ["macosx_14_0_arm64"]
            self.packages = ["torch"]
            self.library = "libtorch_cpu.dylib"
        else:
            raise SetupError(
                f"there is no prebuilt libtorch {VERSION} for {system} on {machine} that this script knows. Unpack the "
                f"official archive (libtorch, C++, CPU, version {VERSION}) or build it, and set LIBTORCH to its folder."
            )


def read_requirements(path):
    """Package name -> (version, set of SHA-256), from a requirements file with hashes."""
    entries = {}
    for line in path.read_text().replace("\\\n", " ").splitlines():
        found = re.match(r"([\w-]+)==(\S+)\s", line)
        if found:
            entries[found[1]] = (found[2], set(re.findall(r"sha256:([0-9a-f]{64})", line)))
    return entries


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(4 * MIB):
            digest.update(block)
    return digest.hexdigest()


def cache_folder():
    if os.environ.get("BACKPACK_RUN_CACHE"):
        return Path(os.environ["BACKPACK_RUN_CACHE"]).resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "backpack-run"


def defect(folder):
    """What is wrong with an unpacked libtorch, or None if every file is as it was when it was unpacked."""
    if not folder.is_dir():
        return "missing"
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"no readable {MANIFEST}"
    for name, (size, digest) in files.items():
        path = folder / name
        try:
            if path.stat().st_size != size or sha256(path) != digest:
                return f"{name} has changed"
        except OSError as error:
            return f"{name}: {error.strerror}"
    return None


@contextlib.contextmanager
def lock(cache):
    """Lets one process at a time work in the cache; the lock goes with the process that holds it."""
    with open(cache / "libtorch.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another setup is at work in {cache}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            say(f"{cache} cannot be locked ({error.strerror}); do not run two setups at once")
        yield


def check_space(folder, needed):
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SetupError(
            f"{folder} has {free // MIB} MiB free, and {needed // MIB} MiB are needed while libtorch is set up (it keeps "
            f"600 MiB). Free some space, or set BACKPACK_RUN_CACHE to a folder on another disk."
        )


def pip(arguments, temporary):
    """Runs pip with its messages on stderr and its temporary files in the cache, where the space was checked."""
    environment = dict(os.environ, TMPDIR=str(temporary), PIP_REQUIRE_VIRTUALENV="0")
    return subprocess.run(
        [sys.executable, "-m", "pip", *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr
    ).returncode


@functools.lru_cache(maxsize=None)
def can_resume():
    """Whether this pip goes on with a broken download where it stopped, as it does from version 25.1."""
    usage = subprocess.run([sys.executable, "-m", "pip", "download", "--help"], stdout=subprocess.PIPE, text=True)
    if usage.returncode != 0:
        raise SetupError(
            f"{sys.executable} has no pip, which fetches libtorch. Install it (on Debian `apt-get install python3-pip`, "
            f"elsewhere `python3 -m ensurepip`), or set LIBTORCH to the folder of a libtorch {VERSION}."
        )
    return "--resume-retries" in usage.stdout


def download(name, entry, target, downloads, temporary):
    """The wheel of one package, from an earlier download or through pip."""
    version, hashes = entry
    prefix = name.replace("-", "_") + "-"
    for wheel in sorted(downloads.glob(f"{prefix}*.whl")):
        if sha256(wheel) in hashes:
            say(f"{wheel.name} is here from an earlier download")
            return wheel
        say(f"{wheel.name} does not have the expected SHA-256; fetching it again")
        wheel.unlink()
    requirement = temporary / "requirement.txt"
    requirement.write_text(f"{name}=={version} " + " ".join(f"--hash=sha256:{h}" for h in sorted(hashes)) + "\n")
    arguments = ["download", "--no-deps", "--require-hashes", "--no-cache-dir", "--only-binary=:all:"]
    arguments += ["--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=none"]
    arguments += [f"--platform={tag}" for tag in target.platforms]
    arguments += [f"--dest={downloads}", f"--requirement={requirement}"]
    attempts = 3
    if can_resume():
        arguments.append("--resume-retries=20")
        attempts = 1
    for attempt in range(1, attempts + 1):
        if pip(arguments, temporary) == 0:
            return next(downloads.glob(f"{prefix}*.whl"))
        if attempt < attempts:
            say(f"fetching {name} did not work, attempt {attempt} of {attempts}; trying again")
            time.sleep(attempt)
    raise SetupError(
        f"pip could not fetch {name} {version}; its reason is above. Check the network and pip's settings (proxy, index, "
        f"certificate) and start again: what has arrived whole is kept. Or set LIBTORCH to the folder of a libtorch "
        f"{VERSION}, or install torch=={VERSION} into this Python ({sys.executable})."
    )


def wanted(name):
    """Whether a file of a wheel belongs to a libtorch for the CPU."""
    if name.endswith("/"):
        return False
    if name.startswith("torch/include/") or name == "torch/version.py":
        return True
    library = re.fullmatch(r"torch/lib/([^/]+\.(?:so|dylib)[.\d]*)", name)
    if library:
        return not any(part in library[1] for part in NOT_NEEDED)
    return re.fullmatch(r"nvidia/cu13/lib/[^/]+\.so[.\d]*", name) is not None


def unpack(wheels, folder, target):
    """Puts the wanted files of the wheels into `folder` and writes down the SHA-256 of each."""
    files = {}

    def keep(name, blocks):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with open(path, "wb") as file:
            for block in blocks:
                file.write(block)
                digest.update(block)
                size += len(block)
        files[name] = (size, digest.hexdigest())

    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in filter(wanted, archive.namelist()):
                if name == "torch/lib/libtorch.so":
                    continue
                with archive.open(name) as member:
                    keep(name, iter(lambda: member.read(MIB), b""))
    if target.library.endswith(".so"):
        # The wheel's own libtorch.so pulls in CUDA; the linker reads this line instead and takes the CPU part.
        keep("torch/lib/libtorch.so", [b"INPUT(-ltorch_cpu)\n"])
    keep("torch/build-version", [VERSION.encode() + b"\n"])
    if f"torch/lib/{target.library}" not in files or not any(name.startswith("torch/include/") for name in files):
        raise SetupError(f"the torch wheel holds no {target.library} or no headers; its layout is not the expected one.")
    manifest = {"schema_version": 1, "libtorch": VERSION, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=0))


def fetch(cache, final, requirements, target):
    """Downloads and unpacks into `final`; called with the lock held, so that every leftover is nobody's."""
    for leftover in [*cache.glob("tmp-*"), *cache.glob("broken-*")]:
        shutil.rmtree(leftover, ignore_errors=True)
    entries = read_requirements(requirements)
    downloads, temporary = cache / "downloads", cache / f"tmp-{os.getpid()}"
    downloads.mkdir(exist_ok=True)
    temporary.mkdir()
    try:
        check_space(cache, SPACE_TO_UNPACK if list(downloads.glob("torch-*.whl")) else SPACE_TO_FETCH)
        say(f"fetching libtorch {VERSION} (the CPU part of the torch wheel, about 540 MB) into {cache}")
        wheels = [download(name, entries[name], target, downloads, temporary) for name in target.packages]
        say("unpacking")
        try:
            unpack(wheels, temporary / "libtorch", target)
        except zipfile.BadZipFile as error:
            raise SetupError(f"a wheel in {downloads} cannot be unpacked ({error}). Delete that folder and start again.")
        if final.exists():
            final.rename(cache / f"broken-{os.getpid()}")
        (temporary / "libtorch").rename(final)
        shutil.rmtree(downloads)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(cache / f"broken-{os.getpid()}", ignore_errors=True)


def cached(requirements):
    """The folder to put into LIBTORCH, fetched first where the cache does not hold it whole."""
    target, cache = Target(), cache_folder()
    final = cache / f"libtorch-{VERSION}-{target.name}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with lock(cache):
            reason = defect(final)
            if reason is None:
                say(f"using libtorch {VERSION} from an earlier download")
            else:
                if reason != "missing":
                    say(f"the libtorch in {final} is damaged ({reason}); replacing it")
                fetch(cache, final, requirements, target)
    except OSError as error:
        raise SetupError(
            f"{error.filename or cache}: {error.strerror}. Make {cache} writable with 1.7 GB free, or set "
            f"BACKPACK_RUN_CACHE to another folder."
        )
    return final / "torch"


def installed():
    """The folder of an installed torch of the right version, without importing it; None without one."""
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec("torch")
        for folder in map(Path, (spec and spec.submodule_search_locations) or []):
            with contextlib.suppress(OSError):
                found = re.search(r"^__version__ = '([^'+]+)", (folder / "version.py").read_text(), re.MULTILINE)
                if found and found[1] == VERSION:
                    if list((folder / "lib").glob("libtorch_cpu.*")) and (folder / "include").is_dir():
                        return folder
                    say(f"torch {VERSION} in {folder} comes without its libraries or headers; not used")
                elif found:
                    say(f"torch {found[1]} is installed in {sys.executable}, and {VERSION} is needed; not used")
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["installed", "cached"])
    parser.add_argument("--requirements", type=Path, default=REQUIREMENTS, help="wheels and hashes to take instead")
    arguments = parser.parse_args()
    try:
        folder = installed() if arguments.command == "installed" else cached(arguments.requirements)
    except SetupError as error:
        say(f"error: {error}")
        return EXIT_ENVIRONMENT
    except KeyboardInterrupt:
        say("interrupted; what has arrived whole is kept for the next start")
        return 130
    if folder is None:
        return 1
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
