"""`indexing`: from image files to a saved index, beside the bare image tower."""

from __future__ import annotations

from pathlib import Path

from ..models import build
from ..models.sizes import SERVED, pair
from ..report.document import Report
from ..report.measurement import Measurement, rate
from ..support import data_folder
from . import scripts
from .run import Run, demo_of
from .throughput import jpegs

WAYS = ("in process", "through Triton")


def run(run: Run) -> Report:
    """Measure and return the report."""
    report = run.report("indexing")
    images, source = images_of(run)
    report.note(f"Images: {source}.")
    built = build.build(pair(SERVED), run.work)
    models = {f"{SERVED} {build.INT8}": built.repository(build.INT8)}
    if demo := demo_of(run, report):
        models["demo"] = demo / "model_repository"
    rows = []
    for name, repository in models.items():
        rows += indexing_of(run, report, name, repository, images)
    head = ["model", "", "bare tower, images/s", "indexing, images/s", "share"]
    report.table("Indexing beside the bare tower", head, rows)
    return report


def images_of(run: Run) -> tuple[Path, str]:
    """Return a folder of images: real photos where there are any, else generated ones."""
    photos = data_folder() / "photos_vi" / "images"
    if photos.is_dir():
        return photos, "real photos of photos_vi, longest side 256 px"
    folder = run.work / "jpegs"
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(jpegs(run, 128)):
        (folder / f"{number}.jpg").write_bytes(data)
    return folder, "generated scenes as JPEG of 640 x 480"


def indexing_of(
    run: Run, report: Report, name: str, repository: Path, images: Path
) -> list[list[str]]:
    """Run `indexing.py` with one model and return the rows of the table."""
    output = run.out / "scripts" / f"indexing-{name.replace(' ', '-')}.json"
    count, turns = (100, 2) if run.quick else (1000, 5)
    words = ("--images", images, "--model", repository, "--count", count, "--rounds", turns)
    repeats = [scripts.run("indexing", output, *words) for _ in range(2)]
    rows = []
    for way in WAYS:
        found = [repeat["images_a_second"][way] for repeat in repeats]
        prefix = f"indexing/{name}/{way}"
        for key, label in (("tower", "bare tower"), ("indexing", "files to index")):
            report.add(f"{prefix}/{label}", rate([each[key] for each in found]))
        share = report.add(
            f"{prefix}/share", Measurement("share", "higher", tuple(e["share"] for e in found))
        )
        what = f"indexing, {name}, {way}: speed over the bare tower's"
        report.ratio(what, f"{prefix}/files to index", f"{prefix}/bare tower")
        last = found[-1]
        rows.append([
            name, way, f"{last['tower']:.1f}", f"{last['indexing']:.1f}", f"{share.value:.3f}",
        ])  # fmt: skip
    return rows
