"""The training loop."""

from __future__ import annotations

import logging
import math
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from vireo_client import __version__
from vireo_client.errors import TrainingError
from vireo_client.progress import note, progress_bar

from ..config import TrainConfig
from ..data.batches import Batch, batches_ahead, plan_epoch
from ..data.prepare import Prepared, prepare, source_name
from ..models.bundle_writer import write_bundle
from ..models.dual_encoder import DualEncoder
from ..models.image_tower import ImageTower
from ..models.resolve import resolve
from ..models.source_towers import open_for_training
from ..readers import Frame
from .checkpoint import fingerprint, load_checkpoint, unfinished
from .devices import any_process, make_accelerator
from .history import flatten, print_epoch, write_history
from .inputs import fitting_batch_size, image_inputs, make_batch_maker, named_classes
from .rehearsal import rehearse
from .run import TOO_FAST, Run
from .stopping import StopRequests
from .validate import ValidationSet
from .warm_start import warm_start

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The bundle of a run, and the metrics of its best epoch on the validation images."""

    bundle: Path
    metrics: dict[str, Any]
    interrupted: bool
    is_main_process: bool = True
    """Whether this process is the one of several that prints."""


def train(
    config: TrainConfig,
    data: str | Path | Frame | Sequence[str | Frame],
    out: Path,
    *,
    validation: str | Frame | None = None,
    captions: Sequence[Path] = (),
    features: Path | None = None,
    columns: Sequence[str] = (),
    file_format: str | None = None,
    resume: bool = False,
    restart: bool = False,
) -> TrainResult:
    """Train a dual encoder on captioned images and write `out/bundle`.

    The bundle holds the weights of the epoch with the best validation metrics (without validation
    images, the last). `out/history.jsonl` has a line an epoch, `out/logs` more (TensorBoard);
    `out/checkpoint.pt` holds the run itself after every epoch, every `checkpoint_minutes`, and when
    Ctrl-C or SIGTERM end it early, which still writes the best bundle so far. An earlier bundle in
    `out` stays until then.

    Under `torchrun` or `accelerate launch` every process calls this; they train as one, with the
    loss of one device.

    Args:
        config: a preset's settings.
        data: sources as `read_mixture` takes them: one or several, with weights, or pandas frames.
        out: the run's folder.
        validation: data to validate on, instead of a part of `data`.
        captions: files of captions without images; they train the text tower where
            `config.text_pairs` is above 0, and the tokenizer always.
        features: folder that keeps the features of frozen image towers, for other runs too; by
            default `out`.
        columns: names for the columns of CSV and TSV files without a header.
        file_format: as `read_data` takes it, for `data` and `validation`.
        resume: go on from the checkpoint in `out`.
        restart: begin anew although `out` holds an unfinished run.

    Raises:
        DataError: no usable captions or images, or too few for one batch.
        TrainingError: the loss or a weight is not finite, pretrained weights cannot be had, a
            checkpoint does not fit or cannot be written, this machine cannot compute the model
            in the precision that `config` sets, or `out` holds an unfinished run.
    """
    out.mkdir(parents=True, exist_ok=True)
    if not (resume or restart) and (how_far := unfinished(out)):
        raise TrainingError(
            f"{out}: holds a run that is not finished ({how_far}); go on with --resume, or begin "
            "anew with --restart"
        )

    # Devices, settings, checkpoint and image weights: an error then comes before hours of decoding.
    accelerator = make_accelerator(config, out)
    torch.manual_seed(config.seed)
    opened = None if config.source is None else open_for_training(config)
    config = resolve(config) if opened is None else opened.config
    state = load_checkpoint(out, config, accelerator.num_processes) if resume else None
    image_tower = None
    if opened is None:
        image_tower = ImageTower(config.image, config.embedding_dim, load=True)

    # Data: images decoded, captions as ids.
    sources: list[str | Frame]
    if isinstance(data, str | Path):
        sources = [str(data)]
    else:
        sources = [data] if isinstance(data, Frame) else list(data)
    prepared = prepare(
        config, sources, validation=validation, captions=captions, scratch=out, columns=columns,
        file_format=file_format, text_path=None if opened is None else opened.text_path,
    )  # fmt: skip
    _warn_of_idle_settings(config, prepared)

    # The towers, in the memory layout that convolutions on CPUs run best.
    tokenizer = prepared.text_path.tokenizer
    model = DualEncoder(
        config, tokenizer.vocab_size, tokenizer.pad_id, load=True, image_tower=image_tower,
        encoders=None if opened is None else opened.encoders,
    )  # fmt: skip
    model.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.compile:
        model.image_tower.backbone.compile()
        model.text_tower.backbone.compile(dynamic=True)

    # Inputs: pixels, or the features of a frozen image tower; with those, the closed form.
    images, held_images = image_inputs(model, config, prepared, features or out, accelerator)
    if config.warm_start and not resume:
        warm_start(
            model, images, prepared.train.captions, seed=config.seed,
            classes=named_classes(config, prepared),
        )  # fmt: skip
    make = make_batch_maker(config, prepared, images, accelerator)
    size = fitting_batch_size(config, len(prepared.train), make.devices)
    batches = len(prepared.train) // size  # in an epoch

    # The run: its state, that of the checkpoint where one is resumed.
    held = prepared.validation
    run = Run(
        config, accelerator, model, out=out, data=fingerprint(prepared),
        validation=ValidationSet(held_images, held.captions, tokenizer, size)
        if held is not None and held_images is not None else None,
        updates=math.ceil(batches / config.accumulate),
    )  # fmt: skip
    # What this machine cannot compute fails here, on few images; a compiled tower is made for one
    # shape.
    few = size if config.compile else min(size, 2 * make.devices)
    trial = make(0, 0, np.arange(few)).to(accelerator.device)
    rehearse(model, trial, config, run.step.autocast)
    # Dropout differs between devices; the draws of images and captions do not.
    torch.manual_seed(config.seed + accelerator.process_index)
    if state is not None:
        run.load(state)
        state = None  # it holds all weights a second time
    progress = run.progress

    # Where little can be learnt, no epoch may be better than the closed form.
    if config.warm_start and not progress.history and not progress.step and held is not None:
        line = progress.begin(run.validate())
        run.keep_best()
        if accelerator.is_main_process:
            print_epoch(line, config.epochs)
            accelerator.log(flatten(line, "/"), step=0)

    stopping = False
    saved = time.monotonic()
    with StopRequests() as stop, progress_bar() as bar:
        task = bar.add_task("train", total=batches * config.epochs)
        while not run.ended and not (stopping := any_process(accelerator, stop.requested)):
            epoch = progress.epoch + 1
            run.unfreeze_due_towers(epoch)
            run.step.model.train()
            plan = plan_epoch(prepared.mixture.draw(epoch, seed=config.seed), size)
            for batch, waited, began in _timed(batches_ahead(make, epoch, plan, progress.step)):
                # Gradients of one batch, added to those of its group.
                done = progress.step + 1
                group = min(
                    config.accumulate, len(plan) - progress.step + progress.step % config.accumulate
                )
                last = done % config.accumulate == 0 or done == len(plan)
                loss = run.step.backward(batch.to(accelerator.device), group, last=last)
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"epoch {epoch}, batch {done}: the loss is {loss}; {TOO_FAST}"
                    )

                # One update, after the last batch of the group.
                if last:
                    run.update()

                # Progress, on the terminal and in the trackers.
                progress.count(loss, time.perf_counter() - began, waited)
                finished = progress.epoch * batches + done
                bar.update(task, completed=finished)
                accelerator.log({"loss": loss, "rate factor": run.schedule.factor}, step=finished)

                # A checkpoint where one is due. It holds no gradients, so a group ends first.
                due = time.monotonic() - saved > 60 * config.checkpoint_minutes
                if last and done < len(plan) and any_process(accelerator, stop.requested or due):
                    run.check_weights()
                    run.save()
                    saved = time.monotonic()
                    if stopping := any_process(accelerator, stop.requested):
                        break
            if stopping:
                break

            # The end of an epoch: validation, the best weights, history and checkpoint.
            run.check_weights()
            line, better = progress.end_epoch(run.validate())
            run.schedule.epoch_ended(better)
            if better:
                run.keep_best()
            if accelerator.is_main_process:
                write_history(out, progress.history)
                print_epoch(line, config.epochs)
                accelerator.log(flatten(line, "/"), step=progress.epoch * batches)
            run.save()
            saved = time.monotonic()

    # The bundle: the best weights so far, also of a run that was stopped.
    if stopping:
        note(f"stopped; {out} holds the run: the same command goes on with --resume")
        if not run.best:
            accelerator.end_training()
            raise KeyboardInterrupt
    if accelerator.is_main_process:
        _write_best(run, config, prepared, sources, out)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return TrainResult(out / "bundle", progress.metrics, stopping, accelerator.is_main_process)


def _write_best(
    run: Run, config: TrainConfig, prepared: Prepared, sources: Sequence[str | Frame], out: Path
) -> None:
    """Write the bundle of the run's best weights."""
    run.model.to("cpu").load_state_dict(run.best)
    write_bundle(
        out / "bundle", run.model, config, prepared.text_path, prepared.image_spec,
        metrics=run.progress.metrics,
        provenance={
            "vireo": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "data": ", ".join(map(source_name, sources)),
            "pictures": prepared.image_counts,
            "split": prepared.fractions,
            "best_epoch": run.progress.best_epoch,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    )  # fmt: skip


def _warn_of_idle_settings(config: TrainConfig, prepared: Prepared) -> None:
    """Warn of settings that can do nothing, or little, with these data."""
    if prepared.validation is None:
        idle = ["patience"] if config.patience is not None else []
        idle += ["plateau"] if config.schedule == "plateau" else []
        without = f", and {' and '.join(idle)} can do nothing" if idle else ""
        logger.warning("no image is held out to validate on: the last epoch is kept%s", without)
    if config.text_pairs and prepared.others is None and config.captions_per_picture == 1:
        logger.warning(
            "text_pairs can do nothing: captions_per_picture is 1, and no --captions are given"
        )
    if not config.learn_temperature and config.temperature >= 0.5:
        logger.warning(
            "a temperature fixed at %g teaches unit embeddings little; better: "
            "--set temperature=0.07 --set learn_temperature=true", config.temperature,
        )  # fmt: skip
    if config.class_names is not None and not config.warm_start:
        logger.warning("class_names can do nothing: only warm_start uses them, and it is false")


def _timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float, float]]:
    """Yield each batch with the seconds spent waiting for it, and when the waiting began."""
    while True:
        began = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - began, began
