"""The training loop."""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import (
    InitProcessGroupKwargs,
    ProjectConfiguration,
    broadcast_object_list,
    gather_object,
)
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from vireo_client import __version__
from vireo_client.errors import DataError, TrainingError
from vireo_client.progress import console, progress_bar

from ..config import PictureAugmentation, TrainConfig
from ..data.augment import make_augmentation
from ..data.batches import Batch, BatchMaker, made_ahead, plan_epoch
from ..data.prepare import Prepared, prepare
from ..models.bundle_writer import write_bundle
from ..models.dual_encoder import DualEncoder
from ..models.image_tower import classifier_weights
from ..models.resolve import resolve
from .checkpoint import check_data, fingerprint, load_checkpoint, save_checkpoint, unfinished
from .ema import moving_average
from .features import features_key, frozen_features
from .optimiser import parameter_groups
from .progress import Progress
from .schedule import Schedule
from .step import Step
from .stopping import StopRequests
from .validate import validate
from .warm_start import Classes, warm_start

_TOO_FAST = "lower the learning rates and begin anew with --restart"


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Where the bundle lies and what its best epoch reached on the validation pictures."""

    bundle: Path
    metrics: dict[str, Any]
    interrupted: bool
    speaks: bool = True
    """Whether this process is the one of several that talks to the user."""


def train(
    config: TrainConfig,
    data: str | Path | Sequence[str],
    out: Path,
    *,
    validation: str | None = None,
    captions: Sequence[Path] = (),
    features: Path | None = None,
    resume: bool = False,
    restart: bool = False,
) -> TrainResult:
    """Trains a dual encoder on captioned pictures and writes `out/bundle`.

    The bundle holds the weights of the epoch with the best validation figures (without validation
    pictures, the last). `out/history.jsonl` has a line an epoch, `out/logs` more (TensorBoard);
    `out/checkpoint.pt` holds the run itself after every epoch, every `checkpoint_minutes`, and when
    Ctrl-C or SIGTERM end it early, which still writes the best bundle so far. An earlier bundle in
    `out` stays until then.

    Under `torchrun` or `accelerate launch` every process calls this; they train as one, with the
    loss of one device.

    Args:
        config: a preset's settings.
        data: what `read_mixture` takes: one source or several, with weights.
        out: the run's folder.
        validation: data to validate on, instead of a part of `data`.
        captions: files of captions without pictures; they train the text tower where
            `config.text_pairs` is above 0, and the tokenizer always.
        features: folder that keeps what frozen image towers see, for other runs too; by default
            `out`.
        resume: go on from the checkpoint in `out`.
        restart: begin anew although `out` holds an unfinished run.

    Raises:
        DataError: no usable captions or pictures, or too few for one batch.
        TrainingError: the loss or a weight is not finite, pretrained weights cannot be had, a
            checkpoint does not fit or cannot be written, or `out` holds an unfinished run.
    """
    out.mkdir(parents=True, exist_ok=True)
    if not (resume or restart) and (how_far := unfinished(out)):
        raise TrainingError(
            f"{out}: holds a run that is not finished ({how_far}); go on with --resume, or begin "
            "anew with --restart"
        )
    accelerator = _accelerator(config, out)
    torch.manual_seed(config.seed)
    config = resolve(config)
    state = load_checkpoint(out, config, accelerator.num_processes) if resume else None
    sources = [str(data)] if isinstance(data, str | Path) else list(data)
    prepared = prepare(config, sources, validation=validation, captions=captions, scratch=out)
    _warn(config, prepared)
    tokenizer = prepared.text_path.tokenizer
    raw = DualEncoder(config, tokenizer.vocab_size, tokenizer.pad_id, load=True)
    # What convolutions on CPUs run best.
    raw.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.compile:
        raw.image_tower.backbone.compile()
        raw.text_tower.backbone.compile(dynamic=True)
    images, held_images = _images(raw, config, prepared, features or out, accelerator)
    if config.warm_start and not resume:
        warm_start(
            raw, images, prepared.train.captions, seed=config.seed,
            classes=_classes(config, prepared),
        )  # fmt: skip
    make = _batch_maker(config, prepared, images, accelerator)
    size = _batch_size(config, len(prepared.train), make.devices)
    batches = len(prepared.train) // size  # in an epoch

    optimiser = torch.optim.AdamW(parameter_groups(raw, config))
    schedule = Schedule(optimiser, config, math.ceil(batches / config.accumulate))
    model = accelerator.prepare_model(raw)
    step = Step(config, accelerator, model, raw, optimiser)
    parts: dict[str, Any] = {
        "model": raw, "optimiser": optimiser, "schedule": schedule, "scaler": step.scaler
    }  # fmt: skip
    average, kept = None, raw
    if config.ema:
        parts["average"] = average = AveragedModel(raw, multi_avg_fn=moving_average(config.ema))
        kept = cast(DualEncoder, average.module)
    progress, best = Progress(), dict[str, Tensor]()
    # Dropout differs between devices; what they draw of the data does not.
    torch.manual_seed(config.seed + accelerator.process_index)
    identity = {"config": config.model_dump_json(), "data": fingerprint(prepared)}
    if state is not None:
        check_data(out, state, identity["data"])
        for name, part in parts.items():
            part.load_state_dict(state[name])
        progress, best = Progress(**json.loads(state["progress"])), state["best"]
        _set_random_state(state["random"][accelerator.process_index])
        state = None  # a second copy of everything

    def best_weights() -> dict[str, Tensor]:
        return {k: v.detach().to("cpu", copy=True) for k, v in kept.state_dict().items()}

    def validated() -> dict[str, Any]:
        """Of all processes, one validates; empty without validation pictures."""
        told: list[dict[str, Any]] = [{}]
        if prepared.validation and held_images is not None and accelerator.is_main_process:
            told = [validate(kept, held_images, prepared.validation.captions, tokenizer)]
        return cast(dict[str, Any], broadcast_object_list(told)[0])

    def save(*, finished: bool = False) -> None:
        random = gather_object([_random_state()])
        if accelerator.is_main_process:
            save_checkpoint(
                out,
                {name: part.state_dict() for name, part in parts.items()}
                | identity
                | {"progress": json.dumps(asdict(progress)), "best": best, "random": random,
                   "epoch": progress.epoch, "epochs": config.epochs, "finished": finished},
            )  # fmt: skip

    # Where little can be learnt, nothing may be better than what the closed form knows.
    if config.warm_start and not progress.history and not progress.step and (first := validated()):
        line, best = progress.begin(first), best_weights()
        if accelerator.is_main_process:
            _report(line, config.epochs)
            accelerator.log(_flat(line), step=0)
    saved = time.monotonic()
    with StopRequests() as stop, progress_bar() as bar:
        task = bar.add_task("train", total=batches * config.epochs)
        while not (asked := _agreed(accelerator, stop.asked)) and not progress.ended(config):
            epoch = progress.epoch + 1
            if _thaw(raw, config, epoch):
                step.model = accelerator.prepare_model(raw)  # it now has more to bring together
            step.model.train()
            plan = plan_epoch(prepared.mixture.draw(epoch, seed=config.seed), size)
            for batch, waited, started in _timed(made_ahead(make, epoch, plan, progress.step)):
                done = progress.step + 1
                group = min(
                    config.accumulate, len(plan) - progress.step + progress.step % config.accumulate
                )
                last = done % config.accumulate == 0 or done == len(plan)
                loss = step.backward(batch.to(accelerator.device), group, last=last)
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"epoch {epoch}, batch {done}: the loss is {loss}; {_TOO_FAST}"
                    )
                if last:
                    step.update()
                    schedule.step()
                    if average is not None:
                        average.update_parameters(raw)
                progress.count(loss, time.perf_counter() - started, waited)
                bar.update(task, completed=progress.epoch * batches + done)
                accelerator.log({"loss": loss, "rate factor": schedule.factor},
                                step=progress.epoch * batches + done)  # fmt: skip
                # Gradients that wait for more of their group are in no checkpoint.
                due = time.monotonic() - saved > 60 * config.checkpoint_minutes
                if last and done < len(plan) and _agreed(accelerator, stop.asked or due):
                    _check_weights(raw, f"epoch {epoch}, batch {done}")
                    save()
                    saved = time.monotonic()
                    if _agreed(accelerator, stop.asked):
                        break
            if progress.step < len(plan):
                continue  # asked to stop
            _check_weights(raw, f"epoch {epoch}")
            line, better = progress.end_epoch(validated())
            schedule.epoch_ended(better)
            if better:
                best = best_weights()
            if accelerator.is_main_process:
                _write_history(out, progress.history)
                _report(line, config.epochs)
                accelerator.log(_flat(line), step=progress.epoch * batches)
            save(finished=progress.ended(config))
            saved = time.monotonic()
    interrupted = asked and not progress.ended(config)
    if interrupted:
        console.print(f"stopped; {out} holds the run: the same command goes on with --resume")
        if not best:
            accelerator.end_training()
            raise KeyboardInterrupt
    if accelerator.is_main_process:
        raw.to("cpu").load_state_dict(best)
        write_bundle(
            out / "bundle", raw, config, prepared.text_path, prepared.image_spec,
            metrics=progress.metrics,
            provenance={
                "vireo": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
                "data": ", ".join(Path(source).name for source in sources),
                "pictures": prepared.pictures,
                "split": prepared.fractions,
                "best_epoch": progress.best_epoch,
                "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            },
        )  # fmt: skip
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return TrainResult(out / "bundle", progress.metrics, interrupted, accelerator.is_main_process)


def _accelerator(config: TrainConfig, out: Path) -> Accelerator:
    """This process's place among the devices, and the trackers.

    Raises:
        TrainingError: a tracker is asked for that is not installed.
    """
    missing = set(config.trackers) - {tracker.value for tracker in get_available_trackers()}
    if missing:
        raise TrainingError(f"trackers: {', '.join(sorted(missing))} is not installed")
    accelerator = Accelerator(
        # Several processes without a GPU find each other only if they are told to stay on the CPU.
        cpu="WORLD_SIZE" in os.environ and not torch.cuda.is_available(),
        mixed_precision="no",  # the step's own business
        log_with=["tensorboard", *config.trackers],
        # One process decodes and validates while the others wait, on large sets for hours. Whoever
        # launched them ends all where one fails.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=2))],
        project_config=ProjectConfiguration(str(out), logging_dir=str(out / "logs")),
    )
    if not accelerator.is_main_process:
        console.quiet = True
        for package in ("vireo_client", "vireo_training"):
            logging.getLogger(package).setLevel(logging.ERROR)
    accelerator.init_trackers("vireo")
    return accelerator


def _batch_size(config: TrainConfig, pictures: int, devices: int) -> int:
    """How many pictures a batch has: each device as many, whatever they and the set allow.

    Raises:
        DataError: there are too few pictures for a batch.
        TrainingError: the settings ask for fewer than can train.
    """
    size = min(config.batch_size, pictures) // devices * devices
    if size < 2:
        raise DataError(
            f"{pictures} picture(s) to train on, batch_size {config.batch_size}, {devices} "
            "device(s): a batch needs two pictures and one for each device"
        )
    chunk = min(config.grad_cache or size, size // devices)
    if chunk < 2 and "mlp" in (config.image.head.kind, config.text.head.kind):
        raise TrainingError(
            "an mlp head has batch norm, which cannot take statistics of one picture: give "
            "grad_cache and batch_size / devices of 2 or more, or another head.kind"
        )
    return size


def _warn(config: TrainConfig, prepared: Prepared) -> None:
    """Says which settings can do nothing with these data."""
    if prepared.validation is None:
        asked = ["patience"] if config.patience is not None else []
        asked += ["plateau"] if config.schedule == "plateau" else []
        without = f", and {' and '.join(asked)} can do nothing" if asked else ""
        logger.warning("no picture is held out to validate on: the last epoch is kept%s", without)
    if config.text_pairs and prepared.others is None and config.captions_per_picture == 1:
        logger.warning(
            "text_pairs can do nothing: captions_per_picture is 1, and no --captions are given"
        )
    if config.class_names is not None and not config.warm_start:
        logger.warning("class_names can do nothing: only warm_start uses them, and it is false")


def _images(
    model: DualEncoder,
    config: TrainConfig,
    prepared: Prepared,
    keep: Path,
    accelerator: Accelerator,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """What the image tower is given of the training and validation pictures: pixels, or, where it
    stays frozen to the end, its features."""
    held = prepared.validation
    if not config.image.freeze or config.image.unfreeze_after is not None:
        return prepared.train.pixels, held.pixels if held else None
    plain = config.model_copy(update={"augment": PictureAugmentation()})
    views = config.feature_views if config.augment.changes else 1
    found = []
    sides = [(prepared.train, config, views, "training")]
    sides += [(held, plain, 1, "validation")] if held else []
    for side, settings, count, what in sides:
        key = features_key(model.image_tower, settings, side.pixels, count)
        with accelerator.local_main_process_first():
            found.append(
                frozen_features(
                    model.image_tower, side.pixels,
                    make_augmentation(settings.augment, prepared.image_spec.size),
                    views=count, seed=config.seed, path=keep / f"features-{key}.npy",
                    label=f"features of {what} pictures",
                )
            )  # fmt: skip
    return found[0], found[1] if held else None


def _classes(config: TrainConfig, prepared: Prepared) -> Classes | None:
    """The classes of the image tower's classifier, if they were named and it is there."""
    if prepared.classes is None:
        return None
    weights = classifier_weights(config.image, len(prepared.classes))
    if weights is None:
        logger.warning(
            "class_names can do nothing: the weights of %s have no classifier of %d classes",
            config.image.name, len(prepared.classes),
        )  # fmt: skip
        return None
    return Classes(prepared.classes, weights)


def _batch_maker(
    config: TrainConfig, prepared: Prepared, images: npt.NDArray[Any], accelerator: Accelerator
) -> BatchMaker:
    return BatchMaker(
        images=images,
        captions=prepared.train.captions,
        others=prepared.others if config.text_pairs else None,
        captions_per_picture=config.captions_per_picture,
        chunk=config.grad_cache or config.batch_size,
        pad_id=prepared.text_path.tokenizer.pad_id,
        text_augment=config.text_augment,
        augment=make_augmentation(config.augment, prepared.image_spec.size),
        seed=config.seed,
        devices=accelerator.num_processes,
        device=accelerator.process_index,
    )


def _timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float, float]]:
    """Adds the seconds spent waiting for each batch, and when the waiting began."""
    while True:
        started = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - started, started


def _thaw(model: DualEncoder, config: TrainConfig, epoch: int) -> bool:
    """Unfreezes the towers whose time has come; says whether there was one."""
    pairs = ((model.image_tower, config.image), (model.text_tower, config.text))
    due = [
        tower
        for tower, settings in pairs
        if tower.frozen and settings.unfreeze_after is not None and epoch > settings.unfreeze_after
    ]
    for tower in due:
        tower.unfreeze()
    return bool(due)


def _check_weights(model: DualEncoder, when: str) -> None:
    """Keeps weights that are not finite out of checkpoint and bundle.

    An update may break them although the loss before it was finite.

    Raises:
        TrainingError: they are not finite.
    """
    if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
        raise TrainingError(f"{when}: weights are no longer finite; {_TOO_FAST}")


def _agreed(accelerator: Accelerator, wish: bool) -> bool:
    """Whether any device wishes it: all must do the same."""
    if accelerator.num_processes == 1:
        return wish
    mine = torch.tensor([float(wish)], device=accelerator.device)
    return bool(accelerator.reduce(mine).item())


def _random_state() -> dict[str, Tensor]:
    cuda = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {"cpu": torch.get_rng_state(), **cuda}


def _set_random_state(state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _write_history(out: Path, history: list[dict[str, Any]]) -> None:
    draft = out / ".history.jsonl"
    draft.write_text("".join(json.dumps(line) + "\n" for line in history), encoding="utf-8")
    draft.replace(out / "history.jsonl")


def _flat(line: dict[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for key, value in line.items():
        flat |= _flat(value, f"{prefix}{key}/") if isinstance(value, dict) else {
            f"{prefix}{key}": value
        }  # fmt: skip
    return flat


def _report(line: dict[str, Any], epochs: int) -> None:
    parts = [f"epoch {line['epoch']:>3}/{epochs}"]
    parts += [f"loss {line['loss']:.3f}"] if "loss" in line else []
    for way, label in (("text_to_image", "text->image"), ("image_to_text", "image->text")):
        if way in line:
            figures = line[way]
            parts.append(
                f"{label} R@1 {figures['recall_at_1']:.3f} R@10 {figures['recall_at_10']:.3f}"
            )
    if "seconds" in line:
        parts.append(f"{line['seconds']:.1f} s ({line['waiting']:.0%} waiting)")
    console.print("  ".join(parts), highlight=False)
