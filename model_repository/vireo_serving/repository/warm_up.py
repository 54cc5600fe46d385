"""What Triton runs before it says that a model is ready: real sentences and a real picture.

Zeros would warm the kernels of one shape but not the tokenizer, the segmenter, the decoder of
pictures and the memory that they take. Triton reads the samples from `MODEL/warmup/`; each is one
row, which it sends as many times as the batch has rows.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import chain, cycle, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tritonclient.grpc import model_config_pb2 as pb
from tritonclient.utils import serialize_byte_tensor
from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage
from vireo_client.errors import ImageError
from vireo_client.images import load_pixels
from vireo_client.repository import (
    IMAGE_MODEL,
    MASK_ROWS,
    PREPROCESS_IMAGE,
    PREPROCESS_TEXT,
    TEXT_MODEL,
)
from vireo_client.text.pipeline import TextPath

from ..configs.triton_config import ServingOptions, Target

CPU_WARM_UP_BATCH = 8
"""A larger batch takes a CPU many seconds and changes nothing but the memory held."""
_SENTENCE = "Hai con chó đang chạy trên bãi cỏ xanh, phía sau là một ngôi nhà nhỏ bên bờ sông."
"""For a model that is exported without captions."""


def add_warm_up(
    configs: Mapping[str, pb.ModelConfig],
    repository: Path,
    bundle: Bundle,
    records: Sequence[CaptionedImage],
    options: ServingOptions,
    *,
    target: Target,
    version: int,
) -> None:
    """Adds warm-up of every text bucket and of a picture, at batch 1 and a large one.

    Args:
        configs: by model name; they get the samples' names.
        repository: gets the samples.
        bundle: preprocesses them.
        records: where sentences and the picture come from; a built-in one each without them.
        options: say how large a batch can be.
        target: what runs the towers.
        version: the version that the samples are for.
    """
    large = options.max_batch_size
    if target == "cpu" or (target == "onnxruntime" and options.device == "cpu"):
        large = min(large, CPU_WARM_UP_BATCH)
    every = (1,) if large == 1 else (1, large)

    def add(
        model: str,
        name: str,
        batches: Sequence[int] = every,
        **tensors: npt.NDArray[np.generic] | bytes,
    ) -> None:
        folder = repository / model / "warmup" / str(version)
        folder.mkdir(parents=True, exist_ok=True)
        for batch in batches:
            sample = configs[model].model_warmup.add(name=f"{name}-batch-{batch}", batch_size=batch)
            for tensor, value in tensors.items():
                declared = next(i for i in configs[model].input if i.name == tensor)
                text = isinstance(value, bytes)
                file = f"{name}-{tensor}"
                content = _as_bytes(value)
                (folder / file).write_bytes(content)
                entry = sample.inputs[tensor]
                entry.data_type = declared.data_type
                entry.dims.extend([1] if text else np.shape(value))
                entry.input_data_file = f"{version}/{file}"

    sentences = _sentences(bundle, records)
    encoded, pixels = _picture(bundle, records)
    if target == "cpu":  # the towers preprocess
        for bucket, (sentence, ids) in sentences.items():
            add(TEXT_MODEL, f"bucket-{bucket}", every[:1], text=sentence.encode())
            # The same text would not be run twice.
            other = _reordered(ids, bundle.config.text.pad_id)
            add(TEXT_MODEL, f"bucket-{bucket}", every[1:], input_ids=other)
        add(IMAGE_MODEL, "picture", image=encoded)
        return
    for bucket, (sentence, ids) in sentences.items():
        add(PREPROCESS_TEXT, f"bucket-{bucket}", text=sentence.encode())
        add(TEXT_MODEL, f"bucket-{bucket}", input_ids=ids)
    add(PREPROCESS_IMAGE, "picture", image=encoded)
    add(IMAGE_MODEL, "picture", pixels=pixels)
    vector = np.ones(bundle.config.embedding_dim, dtype=np.float32)
    add(MASK_ROWS, "vector", vectors=vector, readable=np.ones(1, dtype=bool))


def _as_bytes(value: npt.NDArray[np.generic] | bytes) -> bytes:
    if isinstance(value, bytes):
        return bytes(serialize_byte_tensor(np.array([value], dtype=object)).item())
    return value.tobytes()


def _sentences(
    bundle: Bundle, records: Sequence[CaptionedImage]
) -> dict[int, tuple[str, npt.NDArray[np.int32]]]:
    """A text of real words for every bucket that any text can fill, and its ids."""
    captions = [caption for record in records for caption in record.captions]
    words = [word for caption in captions or [_SENTENCE] for word in caption.split()]
    longest = 4 * bundle.config.text.max_length  # words of few letters make few ids
    endless = list(islice(cycle(words or _SENTENCE.split()), longest))
    text_path = TextPath.from_bundle(bundle)
    found: dict[int, tuple[str, npt.NDArray[np.int32]]] = {}
    count = 1.0
    # Each a tenth longer than the one before: no bucket lies between two of them.
    while count <= longest and bundle.config.text.max_length not in found:
        text = " ".join(endless[: round(count)])
        ((_, input_ids),) = text_path.encode([text])
        found[input_ids.shape[1]] = (text, input_ids[0])
        count = max(count + 1, count * 1.1)
    return found


def _reordered(ids: npt.NDArray[np.int32], pad_id: int) -> npt.NDArray[np.int32]:
    """The same text with its words backwards."""
    words = np.flatnonzero(ids != pad_id)[1:-1]
    other = ids.copy()
    other[words] = ids[words[::-1]]
    return other


def _picture(
    bundle: Bundle, records: Sequence[CaptionedImage]
) -> tuple[bytes, npt.NDArray[np.uint8]]:
    """The first readable picture as a file and as pixels."""
    spec = bundle.config.image
    files = (record.path.read_bytes() for record in records if record.path.is_file())
    for encoded in chain(files, [_gradient()]):
        try:
            return encoded, load_pixels(encoded, spec)
        except ImageError:
            continue
    raise AssertionError("the built-in picture is readable")


def _gradient() -> bytes:
    """A photo's size and format, for a model that is exported without pictures."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((640, 480)).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()
