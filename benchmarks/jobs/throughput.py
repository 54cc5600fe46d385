"""`throughput`: answers a second by the number of clients, beside the engines' best batch."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from vireo_client.bundle import Bundle
from vireo_client.captions import read_captions
from vireo_client.cores import usable_cores
from vireo_client.repository import IMAGE_MODEL, TEXT_MODEL, model_file
from vireo_client.text.pipeline import TextPath

from ..contenders.ours import Tower
from ..contenders.turns import in_turns
from ..host.limits import measure_limits
from ..load.clients import Target, TritonTarget, image_requests, text_requests
from ..load.processes import Clients, Load
from ..load.statistics import Statistics
from ..models import build
from ..report.document import Report
from ..report.measurement import rate, rounded
from ..report.plots import throughput_plot
from .limits import SHARE_HEAD, share_row
from .perf import beside_perf_analyzer
from .run import Run, serving
from .subjects import Subject, subjects
from .towers import inputs

BUCKET = 16
COMPARED = 16
"""The number of clients whose rate is compared with the best batch in process."""
Points = list[tuple[float, float]]


def run(run: Run) -> Report:
    """Measure and return the report."""
    report = run.report("throughput")
    rates: dict[str, Points] = {}
    batches: dict[str, Points] = {}
    for subject in subjects(run, report):
        best = best_batch(run, report, subject)
        with serving(subject.repository, run.out / "logs" / f"{subject.name}.log") as url:
            texts = of_bucket(subject, BUCKET)
            name = f"embed_text, {subject.name}, {BUCKET} tokens"
            target = TritonTarget(url, text_requests("embed_text", texts))
            load_points(run, report, name, target, url, TEXT_MODEL, rates, batches)
            compare_with_best(report, name, best)
            files = jpegs(run)
            beside_perf_analyzer(run, report, subject, texts, files, url)
            name = f"embed_image, {subject.name}, JPEG"
            target = TritonTarget(url, image_requests("embed_image", files))
            load_points(run, report, name, target, url, IMAGE_MODEL, rates, batches)
    title = "Answers a second by clients"
    report.plot(title, throughput_plot(rates, batches, title, run.out / "throughput.svg"))
    throughput_of_towers(run, report)
    return report


def of_bucket(subject: Subject, bucket: int) -> list[str]:
    """Return the queries whose ids fill one bucket; a batch has rows of one length."""
    path = TextPath.from_bundle(Bundle(subject.repository))
    return [text for text in subject.texts if path.encode([text])[0][1].shape[1] == bucket]


def load_points(
    run: Run,
    report: Report,
    name: str,
    target: TritonTarget,
    url: str,
    model: str,
    rates: dict[str, Points],
    batches: dict[str, Points],
) -> None:
    """Measure a target at each number of clients, and add a point of each to both plots."""
    statistics = Statistics(url, (model,))
    rows = []
    with Clients(target, max(run.effort.clients)) as clients:
        for count in run.effort.clients:
            found: dict[str, Any] = {}
            with statistics.over(found):
                loads = [clients.closed(count, run.effort.seconds) for _ in range(run.rounds)]
            server = found[model]
            facts = facts_of(loads) | {"clients": count, "server": server}
            measured = report.add(
                f"throughput/{name}/{count} clients",
                rate([load.per_second for load in loads], **facts),
            )
            rates.setdefault(name, []).append((count, measured.value))
            batches.setdefault(name, []).append((count, server["batch"]))
            rows.append([
                str(count), f"{measured.value:.1f}", f"{measured.spread:.0%}",
                f"{server['batch']:.1f}", f"{server['queue_us'] / 1e3:.2f}",
                f"{server['infer_us'] / 1e3:.2f}", f"{facts['client_cores']:.2f}",
                str(facts["failed"]),
            ])  # fmt: skip
    statistics.close()
    head = ["clients", "answers/s", "spread", "batch", "queue, ms", "compute, ms",
            "clients' cores", "failed"]  # fmt: skip
    report.table(f"`{name}`", head, rows)


def facts_of(loads: Sequence[Load]) -> dict[str, Any]:
    """Return the clients' cores and failures of several loads together."""
    failures = [message for load in loads for message in load.answers.failures]
    facts: dict[str, Any] = {
        "client_cores": rounded(float(np.mean([load.facts["client_cores"] for load in loads]))),
        "failed": len(failures),
    }
    return facts | ({"first_failure": failures[0]} if failures else {})


def best_batch(run: Run, report: Report, subject: Subject) -> str:
    """Measure the text tower in process at each batch size; return the best one's name."""
    contenders: dict[str, Target] = {}
    engine = model_file(subject.repository, TEXT_MODEL)
    for plain in (False, True):
        for batch in run.effort.batches:
            kind = "plain session" if plain else "engine"
            contenders[f"{kind}, batch {batch}"] = Tower(
                engine, subject.ids(BUCKET), batch=batch, plain=plain
            )
    prefix = f"throughput/text tower in process, {subject.name}, {BUCKET} tokens"
    names = _rates_of_batches(run, report, prefix, contenders)
    return max(
        (name for name in names if "/engine" in name), key=lambda n: report.measurements[n].value
    )


def _rates_of_batches(
    run: Run, report: Report, prefix: str, contenders: dict[str, Target]
) -> list[str]:
    names = []
    rows = []
    for name, found in in_turns(contenders, run.plan).items():
        batch = int(name.rpartition(" ")[2])
        values = [batch * len(seconds) / sum(seconds) for seconds in found.rounds]
        names.append(f"{prefix}/{name}")
        measured = report.add(names[-1], rate(values, batch=batch))
        rows.append([name, f"{measured.value:.1f}", f"{measured.spread:.0%}"])
    report.table(prefix.partition("/")[2].capitalize(), ["", "rows/s", "spread"], rows)
    return names


def compare_with_best(report: Report, name: str, best: str) -> None:
    """Add the ratios of sixteen clients to the engine's best batch, as is and with CPU's share.

    The clients run on the server's cores and the engine alone has all of them. The second ratio
    gives the engine what the clients left.
    """
    ours = f"throughput/{name}/{COMPARED} clients"
    value = report.ratio(f"{name}: {COMPARED} clients over the engine's best batch", ours, best)
    taken = report.measurements[ours].facts["client_cores"]
    left = 1 - taken / usable_cores()
    report.note(
        f"{name}: {COMPARED} clients get {value:.2f} of {best.rpartition('/')[2]} in process; "
        f"they take {taken:.2f} of {usable_cores()} cores themselves, and get "
        f"{value / left:.2f} of what the engine would do on the cores that they leave."
    )


def jpegs(run: Run, count: int = 64) -> list[bytes]:
    """Return JPEG files of 640 x 480 pixels, made from generated scenes."""
    files = []
    for record in read_captions(build.scenes(run.work)).records[:count]:
        buffer = io.BytesIO()
        with Image.open(record.path) as image:
            image.convert("RGB").resize((640, 480)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def throughput_of_towers(run: Run, report: Report) -> None:
    """Measure each tower's batches in process by our engine, beside what the machine allows."""
    limits = measure_limits(0.5 if run.quick else 2.0)
    rows, shares = [], []
    for tower in inputs(run):
        for precision in (build.FP32, build.INT8):
            contenders: dict[str, Target] = {
                f"batch {batch}": tower.contender(precision, batch) for batch in run.effort.batches
            }
            best, cells = (1, 0.0), []
            for name, found in in_turns(contenders, run.plan).items():
                batch = int(name.rpartition(" ")[2])
                values = [batch * len(seconds) / sum(seconds) for seconds in found.rounds]
                measured = report.add(
                    f"tower throughput/{tower.name}/{precision}/{name}", rate(values, batch=batch)
                )
                cells.append(f"{measured.value:.1f}")
                best = max(best, (batch, measured.value), key=lambda pair: pair[1])
            rows.append([tower.name, precision, *cells])
            shares.append(share_row(limits, tower, precision, best[0] / best[1], best[0]))
    head = ["tower", "", *(f"batch {batch}" for batch in run.effort.batches)]
    report.table("Bare towers, rows a second", head, rows)
    report.table("The best batch of each tower, beside the machine's limit", SHARE_HEAD, shares)
