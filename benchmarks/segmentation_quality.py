"""Holds our `vncorenlp` segmenter to the reference's answers and to gold segmentation.

Needs the data folder (`VIREO_DATA`, by default `../shared/data`): VnCoreNLP's model files, its
answers to some sentences (`segmentation/vncorenlp_reference.jsonl`) and UD_Vietnamese-VTB, whose
words are gold. Writes `benchmarks/results/segmentation_quality.json`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from vireo_client.text.normalize import normalize
from vireo_client.text.segment import load_segmenter

RESULTS = Path(__file__).parent / "results" / "segmentation_quality.json"
Spans = set[tuple[int, int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("VIREO_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    data = parser.parse_args().data
    ours = load_segmenter("vncorenlp", data / "vncorenlp" / "models" / "wordsegmenter")
    pyvi = load_segmenter("pyvi")
    lines = (data / "segmentation" / "vncorenlp_reference.jsonl").read_text("utf-8").splitlines()
    reference = {row["text"]: row["segmented"] for row in map(json.loads, lines)}

    gold = dict(read_gold(sorted((data / "segmentation" / "UD_Vietnamese-VTB").glob("*.conllu"))))
    judged = [text for text in gold if text in reference]
    report = {
        "sentences": len(reference),
        "agree": sum(ours.segment(t) == answer for t, answer in reference.items()),
        "agree_after_normalisation": sum(
            ours.segment(normalize(t)) == answer for t, answer in reference.items()
        ),
        "gold_sentences": len(judged),
        "word_f1": {
            "vncorenlp": f1((gold[t], ours.segment(t)) for t in judged),
            "reference": f1((gold[t], reference[t]) for t in judged),
            "pyvi": f1((gold[t], pyvi.segment(t)) for t in judged),
        },
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console = Console()
    for key in ("agree", "agree_after_normalisation"):
        share = report[key] / report["sentences"]
        console.print(f"{key}: {report[key]} of {report['sentences']} ({share:.3%})")
    table = Table("segmenter", "precision", "recall", "F1", title=f"{len(judged)} gold sentences")
    for name, figures in report["word_f1"].items():
        table.add_row(name, *(f"{figures[k]:.4f}" for k in ("precision", "recall", "f1")))
    console.print(table)


def read_gold(files: Iterable[Path]) -> Iterator[tuple[str, list[str]]]:
    """Yields (text, words) of CoNLL-U sentences; a word of several syllables holds blanks."""
    for file in files:
        text, words = "", []
        for line in [*file.read_text("utf-8").splitlines(), ""]:
            if line.startswith("# text = "):
                text = line.removeprefix("# text = ")
            elif line and not line.startswith("#"):
                number, form = line.split("\t")[:2]
                if number.isdigit():
                    words.append(form)
            elif not line and words:
                yield text, words
                words = []


def f1(pairs: Iterable[tuple[list[str], list[str]]]) -> dict[str, float]:
    """Precision, recall and F1 of words, compared by the letters they span."""
    right = found = wanted = 0
    for gold, sentences in pairs:
        a = spans(gold)
        b = spans([word for sentence in sentences for word in sentence.split()])
        right, found, wanted = right + len(a & b), found + len(b), wanted + len(a)
    precision, recall = right / found, right / wanted
    score = 2 * precision * recall / (precision + recall)
    return {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(score, 4)}


def spans(words: Iterable[str]) -> Spans:
    """Where each word begins and ends, counted in letters; blanks and `_` are none."""
    out: Spans = set()
    end = 0
    for word in words:
        start, end = end, end + len(word.replace("_", "").replace(" ", ""))
        out.add((start, end))
    return out


if __name__ == "__main__":
    main()
