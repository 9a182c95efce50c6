#!/usr/bin/env python3
"""Writes the reference pages of the documentation from what the program says of itself.

    scripts/make_reference.py target/release/backpack-run docs/reference

`list ... --format json` gives layers, quantities, optimizers and problems; `--help` the commands. A test compares the
committed pages with what this writes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path


def run(program, *arguments):
    # The width of help texts must not depend on the terminal.
    environment = dict(os.environ, COLUMNS="100", NO_COLOR="1")
    done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def listed(program, what):
    return json.loads(run(program, "list", what, "--format", "json"))[what]


def cell(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def code(value):
    # As TOML has it.
    text = str(value).lower() if isinstance(value, bool) else value
    return f"`{text}`" if text not in (None, "") else ""


def sentence(text):
    """A summary as a sentence; a formula keeps its small letter."""
    starts_with_formula = text.startswith(("x ", "x,", "1 ", "max(", "softmax("))
    return (text if starts_with_formula else text[0].upper() + text[1:]) + "."


def layers(program):
    parts = ["# Layers\n", "Layer types of problem files, with their options. Names and defaults are PyTorch's.\n"]
    for layer in listed(program, "layers"):
        parts.append(f"## {layer['name']}\n")
        parts.append(sentence(layer["summary"]) + "\n")
        if layer["options"]:
            rows = [
                (code(option["name"]), "required" if option["required"] else code(option["default"]), option["meaning"])
                for option in layer["options"]
            ]
            parts.append(table(("option", "default", "meaning"), rows))
    return "\n".join(parts)


def quantities(program):
    found = listed(program, "quantities")
    parts = [
        "# Quantities\n",
        "The names that `--quantities` takes. As in BackPACK, a mean loss puts its 1/N into every individual gradient: `variance` and\n"
        "`sum_grad_squared` are those of the 1/N-scaled gradients (for the usual variance, multiply by N²). `--scale paper` rescales\n"
        "both to the paper's definitions.\n",
        table(("quantity", "shape", "what"), [(code(q["quantity"]), code(q["shape"]), q["about"]) for q in found]),
        "## Exceptions by layer\n",
        "Every quantity goes through every layer type, with these exceptions. Where batch norm uses the batch's own statistics, in\n"
        "training, samples depend on each other and only `grad` is defined. *Left out* means that the parameters of these layers are\n"
        "named in `skipped` and all others have the quantity; *refused* means that no network with such a layer has it.\n",
    ]
    rows = []
    for quantity in found:
        exceptions = [
            ("left out", [one for one in quantity["layers"] if one["left_out"]]),
            ("refused", [one for one in quantity["layers"] if not one["possible"] and not one["left_out"]]),
        ]
        for what, ones in exceptions:
            ones = [one for one in ones if not one["layer"].endswith("while training")]
            reasons = list(dict.fromkeys(one["reason"] for one in ones if one["reason"]))
            if ones:
                names = ", ".join(code(one["layer"]) for one in ones)
                reason = reasons[0] if len(reasons) == 1 else ""
                rows.append((quantity["quantity"], what, names, reason))
    # Quantities with the same exceptions share a row.
    groups = {}
    for name, *exception in rows:
        groups.setdefault(tuple(exception), []).append(code(name))
    has_reason = any(reason for _, _, reason in groups)
    header = ("quantity", "", "layers", "reason") if has_reason else ("quantity", "", "layers")
    parts.append(table(header, [(", ".join(names), *exception[: len(header) - 1]) for exception, names in groups.items()]))
    return "\n".join(parts)


def optimizers(program):
    parts = ["# Optimizers\n", "An option is a value or, in an experiment file, a list that is gridded like the learning rate.\n"]
    for optimizer in listed(program, "optimizers"):
        parts.append(f"## {optimizer['name']}\n")
        parts.append(f"{optimizer['title']}: {optimizer['summary']}.\n")
        rows = [
            (code(option["key"]), option["values"], code(option["default"]), option["about"])
            for option in optimizer["option_details"]
        ]
        parts.append(table(("option", "values", "default", "meaning"), rows))
    return "\n".join(parts)


def problems(program):
    parts = ["# Problems\n", "`backpack-run list problems NAME` shows a problem layer by layer.\n"]
    header = ("problem", "data set", "parameters", "batch size", "epochs", "l2")
    rows = []
    for problem in listed(program, "problems"):
        data = problem["dataset"]
        # Such a problem takes the user's own data.
        if isinstance(data, dict) and "input" in data:
            data = "your own text" if data["input"].get("integers") else "your own"
        rows.append(
            (
                code(problem["name"]),
                data,
                f"{problem['parameter_count']:,}" if problem["parameter_count"] else "",
                problem["batch_size"],
                problem["epochs"],
                problem["l2"],
            )
        )
    parts.append(table(header, rows))
    return "\n".join(parts)


def commands(program):
    parts = ["# Commands\n", "What `backpack-run COMMAND --help` prints.\n"]
    listing = run(program, "--help").split("Commands:\n", 1)[1].split("\n\n", 1)[0]
    names = [line.split()[0] for line in listing.splitlines() if line.startswith("  ") and not line.startswith("   ")]
    for name in names:
        if name != "help":
            parts.append(f"## {name}\n")
            parts.append("```text\n" + run(program, name, "--help").rstrip() + "\n```\n")
    return "\n".join(parts)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    program, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for page in (layers, quantities, optimizers, problems, commands):
        (folder / f"{page.__name__}.md").write_text(page(program).rstrip() + "\n")


if __name__ == "__main__":
    main()
