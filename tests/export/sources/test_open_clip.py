import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from support.onnx_runs import cosines
from support.tiny_models import OPEN_CLIP, TEXTS
from vireo_client.images import load_pixels
from vireo_client.text.pipeline import TextPath


@pytest.fixture(scope="module", params=OPEN_CLIP)
def example(request, example_of):
    return example_of(f"open_clip/{request.param}")


@pytest.fixture(scope="module")
def embedder(example):
    """Our whole path from strings and files."""
    with example.in_onnx() as value:
        yield value


@pytest.fixture(scope="module")
def library(model):
    """open_clip's own model, image transform and tokens of `TEXTS`."""
    import open_clip

    name = f"local-dir:{model}"
    encoder, _, transform = open_clip.create_model_and_transforms(
        name, pretrained_text=False, require_pretrained=True
    )
    tokenizer = open_clip.get_tokenizer(name)
    if model.name == "nllb":
        tokenizer.set_language("vie_Latn")  # lasts for one call, unless the tokenizer's
        tokenizer.tokenizer.src_lang = "vie_Latn"  # own setting agrees
    return encoder.eval(), transform, tokenizer(TEXTS)


def upright(path):
    """Turn an image upright and put it on a white background.

    open_clip leaves both to its caller. Without the background it would drop transparency and show
    hidden colours.
    """
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        return white.convert("RGB")
    return image


def test_ids_equal_the_librarys(library, source):
    path = TextPath.from_bundle(source.bundle)
    for positions, ours in path.encode(TEXTS):
        for position, row in zip(positions, ours, strict=True):
            theirs = library[2][position].numpy()
            assert np.array_equal(row, theirs[: len(row)]), TEXTS[position]
            assert (theirs[len(row) :] == path.tokenizer.pad_id).all()


def test_pixels_equal_the_librarys(library, source, images):
    spec = source.bundle.config.image
    mean, std = (np.array(v)[:, None, None] * 255 for v in (spec.mean, spec.std))
    for path in images:
        theirs = library[1](upright(path)).numpy() * std + mean
        difference = np.abs(load_pixels(path, spec) - theirs)
        assert difference.max() < 1.1, path.name
        assert difference.mean() < 0.1, path.name


def test_text_embeddings_equal_the_librarys(library, embedder):
    with torch.no_grad():
        theirs = library[0].encode_text(library[2], normalize=True).numpy()
    ours = embedder.embed_texts(TEXTS, allow_unknown=True)
    assert cosines(ours, theirs).min() > 0.9999
    assert cosines(theirs[:1], theirs[2:5]).max() < 0.999  # else all texts would look alike


def test_image_embeddings_equal_the_librarys(library, embedder, images):
    encoder, transform, _ = library
    with torch.no_grad():
        batch = torch.stack([transform(upright(path)) for path in images])
        theirs = encoder.encode_image(batch, normalize=True).numpy()
    ours = embedder.embed_images(images)
    assert cosines(ours, theirs).min() > 0.9999
    assert cosines(theirs[:1], theirs[1:]).max() < 0.999
