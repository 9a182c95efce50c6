#!/usr/bin/env python3
"""Makes the pictures of README.md with the program itself.

    scripts/make_readme_pictures.py target/release/backpack-run docs/assets

fig10_kfac_light.svg, fig10_kfac_dark.svg: two panels of the page that `report --reference published` makes of KFAC, Momentum
and Adam in results/fig10_published. The dark one has the colours that the page itself takes in the dark.
terminal.svg: what `grid configs/quickstart.toml` prints, drawn by this script; frames of tables become lines, so that they
close in every font. Needs nothing but Python; the grid takes less than two minutes.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OPTIMIZERS = ("KFAC", "Momentum", "Adam")
PANELS = ("test_losses", "test_accuracies")

# The size of a character's cell, and of the letters in it.
WIDE, HIGH, LETTERS = 8.4, 18.0, 14

# Where the strokes of a table's frame go from the middle of a cell: left, right, up, down.
FRAME = {
    "─": "lr", "═": "lr", "│": "ud", "┆": "ud", "┌": "rd", "┐": "ld", "└": "ru", "┘": "lu", "├": "rud", "┤": "lud",
    "┬": "lrd", "┴": "lru", "╞": "rud", "╡": "lud", "╪": "lrud", "┼": "lrud",
}  # fmt: skip


def carry_out(program, *arguments):
    environment = dict(os.environ, COLUMNS="100", NO_COLOR="1")
    done = subprocess.run([program, *map(str, arguments)], env=environment, capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout


def page_of_three(program, folder):
    """The page of a copy of the results that holds three optimizers alone."""
    source = ROOT / "results" / "fig10_published"
    folder.mkdir()
    shutil.copy(source / "meta.json", folder)
    for name in ("curves.csv", "seeds.csv", "final.csv"):
        with open(source / name, newline="") as file, open(folder / name, "w", newline="") as copy:
            header, *rows = csv.reader(file)
            place = header.index("optimizer")
            csv.writer(copy).writerows([header, *(row for row in rows if row[place] in OPTIMIZERS)])
    carry_out(program, "report", folder, "--reference", "published")
    return (folder / "index.html").read_text()


def figures(program, scratch, folder):
    page = page_of_three(program, scratch / "kfac")
    panels = []
    for metric in PANELS:
        found = re.search(rf'data-panel="mnist_logreg-{metric}-epochs".*?(<svg.*?</svg>)', page, re.S)
        width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', found[1]).groups())
        panels.append((found[1], width, height))
    width, height = sum(wide for _, wide, _ in panels), max(high for _, _, high in panels)
    # The rules that turn a figure's colours on the page.
    dark = "\n".join(re.findall(r'^svg\[fill=.*$', page, re.M))
    ground = re.search(r'svg\[fill="#fff"\].*?fill: (#\w+)', dark)[1]
    for theme, style, paper in (("light", "", "#fff"), ("dark", f"<style>\n{dark}\n</style>\n", ground)):
        body, left = "", 0.0
        for svg, wide, _ in panels:
            body += svg.replace("<svg ", f'<svg x="{left:.0f}" ', 1) + "\n"
            left += wide
        text = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">\n'
            f"<title>Test loss and test accuracy of KFAC, Momentum and Adam on MNIST, logistic regression</title>\n"
            f'{style}<rect width="{width:.0f}" height="{height:.0f}" style="fill: {paper}"/>\n{body}</svg>\n'
        )
        (folder / f"fig10_kfac_{theme}.svg").write_text(text)


def frame(lines, top):
    """The strokes of all frames, as the data of a path."""
    strokes = ""
    for row, line in enumerate(lines):
        for column, letter in enumerate(line):
            x, y = (column + 0.5) * WIDE, top + (row + 0.5) * HIGH
            ends = {"l": (x - WIDE / 2, y), "r": (x + WIDE / 2, y), "u": (x, y - HIGH / 2), "d": (x, y + HIGH / 2)}
            strokes += "".join(f"M{x:.1f} {y:.1f}L{ends[way][0]:.1f} {ends[way][1]:.1f}" for way in FRAME.get(letter, ""))
    return strokes


def terminal(program, scratch, folder):
    command = "backpack-run grid configs/quickstart.toml"
    printed = carry_out(program, *command.split()[1:], "--runs-dir", scratch / "runs")
    lines = [f"$ {command}", *printed.rstrip().splitlines()]
    top, margin = 34.0, 14.0
    width, height = (max(map(len, lines))) * WIDE + 2 * margin, top + len(lines) * HIGH + margin
    texts = ""
    for row, line in enumerate(lines):
        y = top + (row + 0.72) * HIGH
        # Every word stands in its cells, whatever the font's width.
        for word in re.finditer(r"[^ ─═│┆┌┐└┘├┤┬┴╞╡╪┼]+", line):
            colour = ' fill="#7fc0f0"' if row == 0 else ' fill="#f0c060"' if word[0] == "*" or line.startswith("best") else ""
            texts += f'<text x="{word.start() * WIDE:.1f}" y="{y:.1f}" textLength="{len(word[0]) * WIDE:.1f}"{colour}>{escape(word[0])}</text>\n'
    dots = "".join(f'<circle cx="{20 + 18 * i}" cy="18" r="5.5" fill="{c}"/>' for i, c in enumerate(("#ff5f57", "#febc2e", "#28c840")))
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">\n'
        f"<title>{escape(command)}</title>\n"
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="8" fill="#15181c"/>\n{dots}\n'
        f'<g transform="translate({margin:.0f} 0)" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{LETTERS}" '
        f'fill="#e6e6e6">\n<path d="{frame(lines, top)}" stroke="#6b727b" stroke-width="1" fill="none"/>\n{texts}</g>\n</svg>\n'
    )
    (folder / "terminal.svg").write_text(text)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    program, folder = str(Path(sys.argv[1]).resolve()), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        figures(program, Path(scratch), folder)
        terminal(program, Path(scratch), folder)


if __name__ == "__main__":
    main()
