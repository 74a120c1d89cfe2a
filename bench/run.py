"""Runs every benchmark and writes the README's table: ours and the peers, in alternation.

    python bench/run.py                    all, at full size (about an hour on two cores)
    python bench/run.py --only export mix  these again; the others' figures are kept
    python bench/run.py --table FILE.json  only the table, of figures taken before

Every row is a ratio of medians within one run, so it holds on a machine of another speed; rows that
we lose stay in.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BENCHES = (
    "plan",
    "mix",
    "coco",
    "llava",
    "vision_flan",
    "export",
    "stream",
    "decode",
    "likeness",
    "push",
)


def run_all(names: Sequence[str], runs: int) -> dict[str, Any]:
    """Run each benchmark in a process of its own and gather their figures."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            out = Path(folder) / f"{name}.json"
            command = [sys.executable, str(HERE / f"{name}.py"), "--runs", str(runs)]
            subprocess.run([*command, "--json", str(out)], check=True)
            figures[name] = json.loads(out.read_text("utf-8"))
    return figures


def rows_of(figures: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Make the table's rows: what, peer, ratio, seconds, memory."""
    rows = []
    llava = figures["llava"]["results"]
    ours = llava["ours"]
    title = f"{figures['llava']['records']:,} LLaVA-style records to Arrow, every check on"
    peers = {
        "generator": "`Dataset.from_generator` over ijson, no check",
        "generator-load": "`Dataset.from_generator` over `json.load`, no check",
    }
    for key, peer in peers.items():
        if key in llava:
            rows.append((title, peer, *_compared(ours, llava[key])))
    for what, title in (
        ("instances", "COCO instances to columns (118,287 pictures, 860,001 annotations)"),
        ("captions", "COCO captions to columns (five a picture)"),
    ):
        found = dict(figures["coco"][what]["results"])
        mine = found.pop("ours")
        for name, row in found.items():
            rows.append((title, name, *_compared(mine, row)))
    flan = figures["vision_flan"]["results"]
    title = f"Vision-Flan's {figures['vision_flan']['records']:,} rows, pictures looked up in a zip"
    rows += [
        (title, "the same with the references given", *_compared(flan["pictures"], flan["given"])),
        (title, "the same as text alone", *_compared(flan["pictures"], flan["records"])),
        ("5,000 pictures out of that zip", "plain files", *_compared(flan["zip"], flan["files"])),
    ]
    plans = dict(figures["plan"]["plans"])
    mine = plans.pop("vision_ift")
    for name, other in sorted(plans.items()):
        each, theirs = (one["seconds"]["median"] / one["rows"]["median"] for one in (mine, other))
        peer = name.replace("datasets, ", "`interleave_datasets`, ")
        rows.append(
            (
                "Plan of 10 million rows, written out",
                peer if peer != name else f"the limit: {name}",
                f"{theirs / each:.1f} × a row",
                f"{mine['seconds']['median']:.2f} / {other['seconds']['median']:.2f}",
                f"{mine['peak_mib']['median']:.0f} / {other['peak_mib']['median']:.0f}",
            )
        )
    for name in BENCHES:  # the others make their rows themselves
        rows += [tuple(row) for row in figures.get(name, {}).get("table", ())]
    return rows


def _compared(ours: dict[str, Any], peer: dict[str, Any]) -> tuple[str, str, str]:
    return (
        f"{peer['median_s'] / ours['median_s']:.1f} ×",
        f"{ours['median_s']:.2f} / {peer['median_s']:.2f}",
        f"{ours['peak_mb']:.0f} / {peer['peak_mb']:.0f}",
    )


def table(figures: dict[str, Any]) -> str:
    """Write the README's part: a table and how it was made."""
    lines = [
        "| what | against | ours is better by | seconds (ours / theirs) | peak MB |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(row)} |" for row in rows_of(figures)]
    llava = figures["llava"]
    versions = {**llava["versions"], **figures["coco"]["versions"]}
    told = ", ".join(f"{name} {value}" for name, value in sorted(versions.items()))
    lines += [
        "",
        (
            f"Medians of runs in alternation, each in a fresh process, on {llava['cores']} cores; "
            f"Python {llava['python']}, {told}. The files are made by the benchmarks, at the real "
            "sizes. `make bench` runs them again; spreads and commands are in "
            "[bench/results.json](bench/results.json)."
        ),
    ]
    return "\n".join(lines)


def put_in_readme(text: str) -> None:
    """Replace what stands between the two marks in the README."""
    readme = README.read_text("utf-8")
    head, _, rest = readme.partition("<!-- bench -->")
    _, _, tail = rest.partition("<!-- /bench -->")
    README.write_text(f"{head}<!-- bench -->\n{text}\n<!-- /bench -->{tail}", "utf-8")


def main() -> None:
    """Parse the command line; run or read; write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, default=HERE / "results.json")
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=BENCHES)
    parser.add_argument("--table", type=Path, help="figures taken before")
    given = parser.parse_args()
    if given.table:
        figures = json.loads(given.table.read_text("utf-8"))
    else:
        figures = json.loads(given.json.read_text("utf-8")) if given.json.exists() else {}
        figures.update(run_all(given.only, given.runs))
        given.json.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", "utf-8")
    text = table(figures)
    print(text)
    put_in_readme(text)


if __name__ == "__main__":
    main()
