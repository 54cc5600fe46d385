"""Warm-up: the requests that Triton runs before it reports a model as ready.

They hold real texts and a real image. Zeros would warm the kernels of one shape, but not the
tokenizer, the segmenter and the decoder of images, nor reserve their memory. Triton reads the
samples from `MODEL/warmup/`; each is one row, which it repeats to fill the batch.
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
from vireo_client.text.pipeline import TextPath

from ..configs.triton_config import ServingOptions
from ..targets import Target
from ..targets.target import Samples

_CAPTION = "Hai con chó đang chạy trên bãi cỏ xanh, phía sau là một ngôi nhà nhỏ bên bờ sông."
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
    """Add warm-up with every text bucket and with an image, at batch 1 and a large batch.

    Args:
        configs: the configurations by model name; the requests are added to them.
        repository: the model repository; the samples are written to it.
        bundle: the bundle, whose preprocessing is used.
        records: captioned images to take texts and an image from; built-in ones without any.
        options: the options that every target has.
        target: what runs the towers.
        version: the version that the samples are for.
    """
    encoded, pixels = _image(bundle, records)
    samples = Samples(
        _texts(bundle, records),
        bundle.config.text.pad_id,
        encoded,
        pixels,
        bundle.config.embedding_dim,
    )
    for model, name, batches, tensors in target.warm_up(samples, options):
        folder = repository / model / "warmup" / str(version)
        folder.mkdir(parents=True, exist_ok=True)
        dtypes = {tensor.name: tensor.data_type for tensor in configs[model].input}
        for batch in batches:
            request = configs[model].model_warmup.add(
                name=f"{name}-batch-{batch}", batch_size=batch
            )
            for tensor, value in tensors.items():
                file = f"{name}-{tensor}"
                (folder / file).write_bytes(_as_bytes(value))
                entry = request.inputs[tensor]
                entry.data_type = dtypes[tensor]
                entry.dims.extend([1] if isinstance(value, bytes) else np.shape(value))
                entry.input_data_file = f"{version}/{file}"


def _as_bytes(value: npt.NDArray[np.generic] | bytes) -> bytes:
    if isinstance(value, bytes):
        return bytes(serialize_byte_tensor(np.array([value], dtype=object)).item())
    return value.tobytes()


def _texts(
    bundle: Bundle, records: Sequence[CaptionedImage]
) -> dict[int, tuple[str, npt.NDArray[np.int32]]]:
    """Return, for every bucket that a text can fill, a text of real words and its ids."""
    captions = [caption for record in records for caption in record.captions]
    words = [word for caption in captions or [_CAPTION] for word in caption.split()]
    longest = 4 * bundle.config.text.max_length  # words of few letters make few ids
    endless = list(islice(cycle(words or _CAPTION.split()), longest))
    text_path = TextPath.from_bundle(bundle)
    texts: dict[int, tuple[str, npt.NDArray[np.int32]]] = {}
    count = 1.0
    # Each text is a tenth longer than the one before, so that none passes over a bucket.
    while count <= longest and bundle.config.text.max_length not in texts:
        text = " ".join(endless[: round(count)])
        ((_, input_ids),) = text_path.encode([text])
        texts[input_ids.shape[1]] = (text, input_ids[0])
        count = max(count + 1, count * 1.1)
    return texts


def _image(
    bundle: Bundle, records: Sequence[CaptionedImage]
) -> tuple[bytes, npt.NDArray[np.uint8]]:
    """Return the first readable image, as a file and as pixels."""
    spec = bundle.config.image
    files = (record.path.read_bytes() for record in records if record.path.is_file())
    for encoded in chain(files, [_gradient()]):
        try:
            return encoded, load_pixels(encoded, spec)
        except ImageError:
            continue
    raise AssertionError("the built-in image is readable")


def _gradient() -> bytes:
    """Return an image of a photo's size and format, for exports without captioned images."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((640, 480)).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()
