import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from support.onnx_runs import cosines
from support.tiny_models import HUGGINGFACE, TEXTS
from vireo_client.images import load_pixels
from vireo_client.text.pipeline import TextPath

# Their graphs are like those of open_clip/vit, siglip2 and clip.
SAME_GRAPH = ("clip-legacy", "siglip", "metaclip_2")


@pytest.fixture(scope="module", params=HUGGINGFACE)
def example(request, example_of):
    return example_of(f"hf/{request.param}")


@pytest.fixture(scope="module")
def embedder(example):
    """Our whole path from strings and files; a graph like another family's is not exported."""
    with example.in_torch() if example.model.name in SAME_GRAPH else example.in_onnx() as value:
        yield value


@pytest.fixture(scope="module")
def library(model):
    """The library's own model and processor."""
    from transformers import AutoModel, AutoProcessor

    return AutoModel.from_pretrained(model).eval(), AutoProcessor.from_pretrained(model)


def _tokens(library, bundle):
    """Call the processor as transformers' documentation describes for this family."""
    encoder, processor = library
    fixed = encoder.config.model_type == "siglip"
    return processor(
        text=TEXTS,
        padding="max_length" if fixed else True,
        truncation=True,
        max_length=bundle.config.text.max_length,
        return_tensors="pt",
    )


def upright(path):
    """Turn an image upright, as transformers' `load_image` does.

    That function also drops transparency. A processor that gets the image itself puts it on a white
    background, as we do.
    """
    return ImageOps.exif_transpose(Image.open(path))


def _unit(output):
    return torch.nn.functional.normalize(output.pooler_output, dim=-1).numpy()


def test_ids_equal_the_librarys(library, source):
    theirs = _tokens(library, source.bundle)
    path = TextPath.from_bundle(source.bundle)
    for positions, ours in path.encode(TEXTS):
        for position, row in zip(positions, ours, strict=True):
            expected = theirs["input_ids"][position].numpy()
            shared = min(len(row), len(expected))
            assert np.array_equal(row[:shared], expected[:shared]), TEXTS[position]
            rest = np.concatenate([row[shared:], expected[shared:]])
            assert (rest == path.tokenizer.pad_id).all()


@pytest.mark.parametrize("backend", ["torchvision", "pil"])
def test_pixels_equal_the_librarys(model, source, images, backend):
    """The library has two processors, which differ from each other as much as from ours; it uses
    the first where torchvision is installed."""
    from transformers import AutoImageProcessor

    spec = source.bundle.config.image
    processor = AutoImageProcessor.from_pretrained(model, backend=backend)
    assert processor.backend == backend
    mean, std = (np.array(v)[:, None, None] * 255 for v in (spec.mean, spec.std))
    for path in images:
        theirs = processor(upright(path), return_tensors="np")["pixel_values"][0] * std + mean
        difference = np.abs(load_pixels(path, spec) - theirs)
        assert difference.max() < 2.1, path.name
        assert difference.mean() < 0.2, path.name


@pytest.mark.parametrize("backend", ["torchvision", "pil"])
def test_pixels_of_real_photos_equal_the_librarys(model, source, shared_data, backend):
    from transformers import AutoImageProcessor

    spec = source.bundle.config.image
    processor = AutoImageProcessor.from_pretrained(model, backend=backend)
    mean, std = (np.array(v)[:, None, None] * 255 for v in (spec.mean, spec.std))
    for path in sorted((shared_data / "photos_vi").rglob("*.jpg"))[:8]:
        theirs = processor(upright(path), return_tensors="np")["pixel_values"][0] * std + mean
        difference = np.abs(load_pixels(path, spec) - theirs)
        assert difference.max() < 1.1, path.name
        assert difference.mean() < 0.01, path.name


def test_text_embeddings_equal_the_librarys(library, source, embedder):
    with torch.no_grad():
        theirs = _unit(library[0].get_text_features(**_tokens(library, source.bundle)))
    ours = embedder.embed_texts(TEXTS, allow_unknown=True)
    assert cosines(ours, theirs).min() > 0.9999
    assert cosines(theirs[:1], theirs[2:5]).max() < 0.999  # else all texts would look alike


def test_image_embeddings_equal_the_librarys(library, embedder, images):
    encoder, processor = library
    with torch.no_grad():
        theirs = np.concatenate(
            [
                _unit(
                    encoder.get_image_features(
                        **processor(images=upright(path), return_tensors="pt")
                    )
                )
                for path in images
            ]
        )
    ours = embedder.embed_images(images)
    assert cosines(ours, theirs).min() > 0.9999
    assert cosines(theirs[:1], theirs[1:]).max() < 0.999
