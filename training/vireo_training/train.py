"""The training loop."""

from __future__ import annotations

import json
import math
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vireo_client import __version__
from vireo_client.captions import log_skips
from vireo_client.errors import DataError, TrainingError
from vireo_client.progress import console, progress_bar, track
from vireo_client.text.normalize import normalize
from vireo_client.text.pipeline import TextPath
from vireo_client.text.segment import load_segmenter
from vireo_client.text.tokenize import TextTokenizer
from vireo_client.text.train import train_bpe, train_word_vocabulary

from .augment import make_augmentation
from .bundle_writer import write_bundle
from .config import TrainConfig
from .data import Pictures, decode_pictures, regroup, split_by_picture, training_batches
from .loss import contrastive_loss
from .metrics import retrieval_metrics
from .model import DualEncoder
from .readers import read_data
from .resolve import image_spec as make_image_spec
from .resolve import resolve


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Where the bundle lies and what its best epoch reached on the validation pictures."""

    bundle: Path
    metrics: dict[str, Any]
    interrupted: bool


def train(config: TrainConfig, data: str | Path, out: Path) -> TrainResult:
    """Trains a dual encoder on the captions of `data` (see `read_data`) and writes `out/bundle`.

    The bundle holds the weights of the epoch with the best validation figures (without validation
    pictures, the last). Ctrl-C ends training early and still writes it; an earlier bundle in `out`
    stays until then. `out/history.jsonl` has a line an epoch.

    Raises:
        DataError: no usable captions or pictures, or too few for one batch.
        TrainingError: the loss is not finite, or pretrained weights cannot be had.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    out.mkdir(parents=True, exist_ok=True)

    captions = read_data(data)
    log_skips(captions.skipped)
    split = split_by_picture(
        captions.records, config.validation_fraction, config.test_fraction, config.seed
    )
    if len(split.train) < 2:
        raise DataError(f"{data}: {len(split.train)} picture(s) to train on; at least 2 are needed")

    config = resolve(config)
    image_spec = make_image_spec(config.image)
    # Random crops need the margin around the centre.
    side = image_spec.resize if config.augment.crop else image_spec.size
    decoded = decode_pictures(
        split.train, image_spec, side=side, scratch=out, label="decode training pictures"
    )
    segmenter = load_segmenter(config.text.segmenter)
    texts = [caption for record in decoded.records for caption in record.captions]
    segmented = [
        " ".join(segmenter.segment(normalize(text))) for text in track(texts, "segment captions")
    ]
    train_tokenizer = train_bpe if config.text.tokenizer == "bpe" else train_word_vocabulary
    words = train_tokenizer(segmented, vocab_size=config.text.vocab_size)
    tokenizer = TextTokenizer(words, config.text.buckets)
    text_path = TextPath(segmenter, tokenizer)
    pictures = Pictures(decoded.pixels, regroup(tokenizer.ids(segmented), decoded.records))
    skipped = split.unreadable + decoded.skipped
    validation: Pictures | None = None
    if split.validation:
        held_out = decode_pictures(
            split.validation, image_spec, side=image_spec.size, scratch=out,
            label="decode validation pictures",
        )  # fmt: skip
        texts = [caption for record in held_out.records for caption in record.captions]
        ids = tokenizer.ids([text_path.segment(text) for text in texts])
        validation = Pictures(held_out.pixels, regroup(ids, held_out.records))
        skipped += held_out.skipped
    log_skips(skipped)

    model = DualEncoder(config, tokenizer.vocab_size, tokenizer.pad_id, load=True)
    # What convolutions on CPUs run best.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = _optimiser(model, config)
    epoch_steps = max(1, len(pictures) // config.batch_size)
    steps = epoch_steps * config.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _cosine(step, steps, round(config.warmup_epochs * epoch_steps))
    )
    augment = make_augmentation(config.augment, image_spec.size)
    mixed = config.precision == "bf16" or (config.precision == "auto" and _fast_bf16())

    best: dict[str, Tensor] = {}
    metrics: dict[str, Any] = {}
    best_score, interrupted = -1.0, False
    history = (out / "history.jsonl").open("w", encoding="utf-8")
    try:
        with history, progress_bar() as progress:
            task = progress.add_task("train", total=steps)
            for epoch in range(1, config.epochs + 1):
                model.train()
                started, losses = time.perf_counter(), []
                for batch in training_batches(
                    pictures, tokenizer.pad_id, batch_size=config.batch_size,
                    captions_per_picture=config.captions_per_picture, rng=rng,
                ):  # fmt: skip
                    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                        image, text = model(augment(batch.pixels, rng), batch.input_ids)
                    loss = contrastive_loss(image, text, batch.picture, model.logit_scale)
                    if not torch.isfinite(loss):
                        raise TrainingError(
                            f"epoch {epoch}: the loss is {loss.item()}; lower the learning rates"
                        )
                    optimiser.zero_grad(set_to_none=True)
                    loss.backward()  # type: ignore[no-untyped-call]
                    torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
                    optimiser.step()
                    schedule.step()
                    losses.append(loss.item())
                    progress.advance(task)
                line: dict[str, Any] = {
                    "epoch": epoch,
                    "loss": round(float(np.mean(losses)), 4),
                    "seconds": round(time.perf_counter() - started, 2),
                }
                score = float(epoch)
                if validation is not None:
                    line |= (epoch_metrics := validate(model, validation, tokenizer))
                    score = sum(
                        epoch_metrics[way]["mean_reciprocal_rank"]
                        for way in ("text_to_image", "image_to_text")
                    )
                    metrics = epoch_metrics if score > best_score else metrics
                if score > best_score:
                    best_score = score
                    best = {k: v.detach().clone() for k, v in model.state_dict().items()}
                history.write(json.dumps(line) + "\n")
                history.flush()
                _report(line, config.epochs)
    except KeyboardInterrupt:
        if not best:
            raise
        interrupted = True
        console.print("interrupted: writing the best epoch so far")

    model.load_state_dict(best)
    bundle = write_bundle(
        out / "bundle", model, config, text_path, image_spec,
        metrics=metrics,
        provenance={
            "vireo": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "data": Path(data).name,
            "pictures": {"train": len(pictures), "validation": len(split.validation),
                         "test": len(split.test)},
            "split": config.model_dump(include={"validation_fraction", "test_fraction", "seed"}),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    )  # fmt: skip
    return TrainResult(bundle, metrics, interrupted)


@torch.inference_mode()
def validate(model: DualEncoder, pictures: Pictures, tokenizer: TextTokenizer) -> dict[str, Any]:
    """Retrieval metrics of `model` on decoded pictures and all their captions."""
    model.eval()
    blocks = np.array_split(pictures.pixels, max(1, math.ceil(len(pictures) / 128)))
    images = [model.image_tower(torch.from_numpy(np.ascontiguousarray(b))) for b in blocks]
    flat = [ids for captions in pictures.ids for ids in captions]
    owner = np.repeat(np.arange(len(pictures)), [len(captions) for captions in pictures.ids])
    texts = np.empty((len(flat), images[0].shape[1]), dtype=np.float32)
    for positions, input_ids in tokenizer.pad(flat):
        for start in range(0, len(positions), 512):
            rows = slice(start, start + 512)
            texts[positions[rows]] = model.text_tower(torch.from_numpy(input_ids[rows])).numpy()
    return retrieval_metrics(torch.cat(images).numpy(), texts, owner)


def _fast_bf16() -> bool:
    """Whether this CPU has matrix tiles for bf16; without them bf16 is slower than fp32."""
    return bool(torch.cpu._is_amx_tile_supported())


def _optimiser(model: DualEncoder, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with a rate for each part, and no weight decay on norms, biases and the scale."""
    rates = {"image_tower.backbone": config.lr_image, "text_tower": config.lr_text}
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        head = ".head." in name or name == "log_logit_scale"
        rate = config.lr_head if head else next(r for p, r in rates.items() if name.startswith(p))
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()]
    )


def _cosine(step: int, steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def _report(line: dict[str, Any], epochs: int) -> None:
    parts = [f"epoch {line['epoch']:>3}/{epochs}", f"loss {line['loss']:.3f}"]
    for way, label in (("text_to_image", "text->image"), ("image_to_text", "image->text")):
        if way in line:
            figures = line[way]
            parts.append(
                f"{label} R@1 {figures['recall_at_1']:.3f} R@10 {figures['recall_at_10']:.3f}"
            )
    parts.append(f"{line['seconds']:.1f} s")
    console.print("  ".join(parts), highlight=False)
