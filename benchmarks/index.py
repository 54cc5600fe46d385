"""Measure the kinds of index beside hnswlib, usearch and scikit-learn: recall, time, memory.

    pip install hnswlib usearch scikit-learn
    python benchmarks/index.py --rows 100000 1000000
    python benchmarks/index.py --quick

The vectors are drawn as embeddings of photos are spread (`spread.py` says how, and why noise would
be no benchmark); the queries come from the same distribution and are not in the index. Our kinds
are tuned to a recall@10 of 0.99 by their build, which does not see these queries; hnswlib and
usearch on these queries, to the recall that the kind of `auto` has. One query runs at a time, on
one thread; the contenders take turns, so that other work on the machine slows all of them alike.
Beside the time on the clock stands that of the thread, which other work disturbs less. Structures
are kept in `--folder`, and built only if they are not there. Opening is timed in a process of its
own, from the file to the open structure.

Writes `benchmarks/results/index.json` and a table beside it, `index.md`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import vireo_client.index.kinds as kinds
from index_contenders import PEERS, Floats, Rows, Search, build, open_ours, open_peer, scikit_learn
from spread import DIM, Spread, draw
from support import ROOT, machine, option_parser, print_heading, print_table, write_report
from vireo_client.index.kinds.master import Master

TARGET = 0.99
QUERIES, TURNS, EACH = 500, 5, 60
"""Queries for recall; turns of each contender, and queries timed in a turn."""

_OPEN = """
import json, sys, time
from pathlib import Path
import numpy as np
from vireo_client.index import kinds
name, path, vectors, settings = sys.argv[1:]
started = time.perf_counter()
master = np.load(vectors, mmap_mode="r")
path = None if name == "flat" else Path(path)
opened = kinds.open_structure(name, path, master, json.loads(settings))
print(time.perf_counter() - started)
"""


def main() -> None:
    parser = option_parser(__doc__, "index.json")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument(
        "--kinds", nargs="+", default=[*kinds.KINDS, *PEERS], help="kinds and peers to measure"
    )
    parser.add_argument("--quick", action="store_true", help="20,000 vectors, fewer queries")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "index", help="structures")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    sizes = [20_000] if args.quick else args.rows
    report: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "dim": DIM}
    report["sizes"] = {}
    for rows in sizes:
        report["sizes"][str(rows)] = measure(rows, args.kinds, args.folder)
        write_report(report, args.output)
    args.output.with_suffix(".md").write_text(markdown(report), encoding="utf-8")
    print_heading(report)
    for rows, found in report["sizes"].items():
        print_table(HEAD, table_rows(found), f"{int(rows):,} vectors of {DIM}")


def measure(rows: int, names: list[str], folder: Path) -> dict[str, Any]:
    """Measure every contender on `rows` vectors."""
    vectors = draw(rows, folder / f"{rows}.npy")
    queries = Spread.load().queries(rows, QUERIES)
    master = Master(vectors)
    _, truth = master.search(queries, 10, None)
    found: dict[str, Any] = {
        "auto": kinds.choose(rows, DIM),
        "exact_equals_numpy": same_as_numpy(vectors, queries, truth),
    }
    searches: dict[str, Search] = {}
    results: dict[str, Any] = {}
    for name in names:
        known = build(name, vectors, folder)
        if name in PEERS:
            goal = results[found["auto"]]["recall@10"] if found["auto"] in results else TARGET
            search, chosen = open_peer(name, vectors, folder, queries, truth, goal)
            opening = None
        else:
            search, chosen = open_ours(name, vectors, folder, known)
            opening = opening_ms(name, folder, rows, known)
        searches[name] = search
        results[name] = {
            **quality(search(queries), truth),
            "chosen": chosen,
            "promised_recall": known.get("recall@10"),
            "build_s": known.get("seconds", 0.0),
            "structure_bytes_per_vector": round(known["file_bytes"] / rows, 1),
            "disk_bytes_per_vector": round(
                known["file_bytes"] / rows + (0 if name in PEERS else 4 * DIM), 1
            ),
            "open_ms": opening,
        }
        print(rows, name, results[name], flush=True)
    for name, times in in_turns(searches, queries).items():
        clock, thread = np.array(times).T * 1e3
        results[name].update(
            p50_ms=round(float(np.median(clock)), 3),
            p99_ms=round(float(np.percentile(clock, 99)), 3),
            p50_thread_ms=round(float(np.median(thread)), 3),
        )
    found["contenders"] = results
    sklearn = in_turns({"s": scikit_learn(vectors)}, queries[:4], turns=1, each=3, warm=1)["s"]
    found["scikit_learn_ms"] = round(float(np.median(sklearn, axis=0)[0]) * 1e3, 1)
    return found


def quality(rows: Rows, truth: Rows) -> dict[str, float]:
    """Return recall@10, the error of the first match, and mAP@10 against the exact ten."""
    hits = (rows[:, :, None] == truth[:, None, :]).any(axis=2)
    precision = np.cumsum(hits, axis=1) / np.arange(1, 11)
    return {
        "recall@10": round(float(hits.mean()), 4),
        "top1_error": round(float((rows[:, 0] != truth[:, 0]).mean()), 4),
        "mAP@10": round(float(((precision * hits).sum(axis=1) / 10).mean()), 4),
    }


def same_as_numpy(vectors: Floats, queries: Floats, truth: Rows) -> bool:
    """Compare the exact search with NumPy's product and sort, block by block."""
    scores = np.concatenate(
        [vectors[n : n + 50_000] @ queries.T for n in range(0, len(vectors), 50_000)]
    ).T
    best = np.argpartition(-scores, 10, axis=1)[:, :10]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
    best = np.take_along_axis(best, order, axis=1)
    # Two products may round in another order: rows may change places where the scores are equal.
    ours, numpys = (np.take_along_axis(scores, rows, axis=1) for rows in (truth, best))
    return bool(np.abs(ours - numpys).max() < 1e-6)


def in_turns(
    searches: dict[str, Search],
    queries: Floats,
    turns: int = TURNS,
    each: int = EACH,
    warm: int = 10,
) -> dict[str, list[tuple[float, float]]]:
    """Time single queries by clock and thread, `each` of a contender before the next one's turn."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in searches}
    for turn in range(turns):
        for name, search in searches.items():
            for number in range(warm + each):
                query = queries[(turn * each + number) % len(queries)][None]
                started, cpu = time.perf_counter(), time.thread_time()
                search(query)
                if number >= warm:
                    took = time.perf_counter() - started, time.thread_time() - cpu
                    times[name].append(took)
    return times


def opening_ms(name: str, folder: Path, rows: int, known: dict[str, Any]) -> float:
    """Time opening in a fresh process, three times; return the median."""
    files = [str(folder / f"{rows}-{name}.index"), str(folder / f"{rows}.npy")]
    command = [sys.executable, "-c", _OPEN, name, *files, json.dumps(known)]
    times = [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(3)
    ]
    return round(float(np.median(times)) * 1e3, 1)


HEAD = (
    "kind", "recall@10", "top-1 error", "mAP@10", "p50 ms", "p99 ms", "thread ms", "times sklearn",
    "bytes/vector", "on disk", "build s", "open ms", "parameters",
)  # fmt: skip


def table_rows(found: dict[str, Any]) -> list[list[str]]:
    """Return the lines of a table, best first."""
    lines = []
    for name, values in sorted(found["contenders"].items(), key=lambda item: item[1]["p50_ms"]):
        chosen = " ".join(f"{key} {value}" for key, value in values["chosen"].items())
        lines.append(
            [
                f"{name} (auto)" if name == found["auto"] else name,
                f"{values['recall@10']:.4f}",
                f"{values['top1_error']:.4f}",
                f"{values['mAP@10']:.4f}",
                f"{values['p50_ms']:.3f}",
                f"{values['p99_ms']:.3f}",
                f"{values['p50_thread_ms']:.3f}",
                f"{found['scikit_learn_ms'] / values['p50_ms']:.0f}",
                f"{values['structure_bytes_per_vector']:.0f}",
                f"{values['disk_bytes_per_vector']:.0f}",
                f"{values['build_s']:.0f}",
                "" if values["open_ms"] is None else f"{values['open_ms']:.1f}",
                chosen,
            ]
        )
    return lines


def markdown(report: dict[str, Any]) -> str:
    """Return the results as tables in Markdown."""
    computer = report["machine"]
    lines = [f"# Index kinds, {computer['cpu']}, {computer['cores']} cores, {report['date']}", ""]
    for rows, found in report["sizes"].items():
        lines += [f"## {int(rows):,} vectors of {report['dim']}", ""]
        lines += [f"| {' | '.join(HEAD)} |", "| --- " * len(HEAD) + "|"]
        lines += [f"| {' | '.join(line)} |" for line in table_rows(found)]
        equal = "equals" if found["exact_equals_numpy"] else "DIFFERS FROM"
        slow = f"{found['scikit_learn_ms']:.1f} ms a query"
        lines += ["", f"Exact search {equal} NumPy's top 10. scikit-learn takes {slow}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
