"""Compare our `vncorenlp` segmenter with the reference's answers and with gold segmentation.

Needs the data folder (`VIREO_DATA`, by default `../shared/data`): VnCoreNLP's model files, its
answers to some sentences (`segmentation/vncorenlp_reference.jsonl`) and UD_Vietnamese-VTB, whose
words are gold. Writes `benchmarks/results/segmentation_quality.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from support import data_folder, option_parser, print_table, write_report
from vireo_client.text.normalize import normalize
from vireo_client.text.segment import load_segmenter

Spans = set[tuple[int, int]]


def main() -> None:
    parser = option_parser(__doc__, "segmentation_quality.json")
    parser.add_argument("--data", type=Path, default=data_folder(), help="the data folder")
    options = parser.parse_args()
    data: Path = options.data
    ours = load_segmenter("vncorenlp", data / "vncorenlp" / "models" / "wordsegmenter")
    pyvi = load_segmenter("pyvi")
    lines = (data / "segmentation" / "vncorenlp_reference.jsonl").read_text("utf-8").splitlines()
    reference = {row["text"]: row["segmented"] for row in map(json.loads, lines)}

    gold = dict(read_gold(sorted((data / "segmentation" / "UD_Vietnamese-VTB").glob("*.conllu"))))
    common = [text for text in gold if text in reference]
    report = {
        "sentences": len(reference),
        "agree": sum(ours.segment(t) == answer for t, answer in reference.items()),
        "agree_after_normalisation": sum(
            ours.segment(normalize(t)) == answer for t, answer in reference.items()
        ),
        "gold_sentences": len(common),
        "word_f1": {
            "vncorenlp": f1((gold[t], ours.segment(t)) for t in common),
            "reference": f1((gold[t], reference[t]) for t in common),
            "pyvi": f1((gold[t], pyvi.segment(t)) for t in common),
        },
    }
    write_report(report, options.output)
    console = Console()
    for key in ("agree", "agree_after_normalisation"):
        share = report[key] / report["sentences"]
        console.print(f"{key}: {report[key]} of {report['sentences']} ({share:.3%})")
    rows = [
        [name, *(f"{figures[k]:.4f}" for k in ("precision", "recall", "f1"))]
        for name, figures in report["word_f1"].items()
    ]
    head = ("segmenter", "precision", "recall", "F1")
    print_table(head, rows, title=f"{len(common)} gold sentences")


def read_gold(files: Iterable[Path]) -> Iterator[tuple[str, list[str]]]:
    """Yield (text, words) of CoNLL-U sentences. A word of several syllables holds blanks."""
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
    """Return precision, recall and F1 of words, compared by the letters that they span."""
    right = predicted = expected = 0
    for gold, sentences in pairs:
        a = spans(gold)
        b = spans([word for sentence in sentences for word in sentence.split()])
        right, predicted, expected = right + len(a & b), predicted + len(b), expected + len(a)
    precision, recall = right / predicted, right / expected
    score = 2 * precision * recall / (precision + recall)
    return {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(score, 4)}


def spans(words: Iterable[str]) -> Spans:
    """Return the first and last letter's number of each word; blanks and `_` do not count."""
    out: Spans = set()
    end = 0
    for word in words:
        start, end = end, end + len(word.replace("_", "").replace(" ", ""))
        out.add((start, end))
    return out


if __name__ == "__main__":
    main()
