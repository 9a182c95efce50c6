#!/usr/bin/env python3
"""Adds up what the test runners report, lists the skips, and ends with `N passed, N failed, N skipped`.

Called by test.sh. Counts come from nextest's JUnit file and from the `test result:` lines of cargo test; skips from
the file that tests/support writes. A skipped test passes as far as its runner knows, and is counted as skipped here.
The exit code is 0 only if at least one test ran, none failed, and no other step failed.
"""

import argparse
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def read(path):
    return path.read_text(errors="replace") if path.is_file() else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--junit", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--skips", type=Path, required=True)
    parser.add_argument("--failed-steps", default="", help="steps that failed, for the report")
    arguments = parser.parse_args()

    passed = failed = 0
    if arguments.junit.is_file():
        root = ElementTree.parse(arguments.junit).getroot()
        bad = int(root.get("failures", 0)) + int(root.get("errors", 0))
        passed += int(root.get("tests", 0)) - bad
        failed += bad
    colours = re.compile(r"\x1b\[[0-9;]*m")
    for line in colours.sub("", read(arguments.log)).splitlines():
        found = re.match(r"test result: \w+\. (\d+) passed; (\d+) failed;", line)
        if found:
            passed += int(found[1])
            failed += int(found[2])
    skips = sorted(set(filter(None, read(arguments.skips).splitlines())))
    passed -= len(skips)

    for skip in skips:
        print(f"SKIP {skip}")
    if arguments.failed_steps:
        print(f"failed: {arguments.failed_steps}")
    if passed + failed + len(skips) == 0:
        print("no test was run; with arguments, no test has any of them in its name")
    print(f"{passed} passed, {failed} failed, {len(skips)} skipped", flush=True)
    return int(failed > 0 or bool(arguments.failed_steps) or passed + len(skips) == 0)


if __name__ == "__main__":
    sys.exit(main())
