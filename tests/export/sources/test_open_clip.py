import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from support.tiny_models import OPEN_CLIP, SENTENCES
from vireo_client.images import load_pixels
from vireo_client.text.pipeline import TextPath


@pytest.fixture(scope="module", params=OPEN_CLIP)
def example(request, example_of):
    return example_of(f"open_clip/{request.param}")


@pytest.fixture(scope="module")
def model(example):
    return example.model


@pytest.fixture(scope="module")
def source(example):
    return example.source


@pytest.fixture(scope="module")
def embedder(example):
    """Our whole way, from strings and files."""
    with example.in_onnx() as value:
        yield value


@pytest.fixture(scope="module")
def library(model):
    """open_clip's own model, picture transform and tokens of `SENTENCES`."""
    import open_clip

    name = f"local-dir:{model}"
    encoder, _, transform = open_clip.create_model_and_transforms(
        name, pretrained_text=False, require_pretrained=True
    )
    tokenizer = open_clip.get_tokenizer(name)
    if model.name == "nllb":
        tokenizer.set_language("vie_Latn")  # forgotten at the next call, unless the tokenizer's
        tokenizer.tokenizer.src_lang = "vie_Latn"  # own setting says the same
    return encoder.eval(), transform, tokenizer(SENTENCES)


def upright(path):
    """open_clip takes a picture as it lies in the file: whoever calls it turns it, as we do.

    What is transparent it drops, so that colours show which nobody was meant to see; we lay it on
    white.
    """
    picture = ImageOps.exif_transpose(Image.open(path))
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture)
        return white.convert("RGB")
    return picture


def cosines(a, b):
    return (a * b).sum(axis=1)


def test_ids_are_the_librarys(library, source):
    path = TextPath.from_bundle(source.bundle)
    for positions, ours in path.encode(SENTENCES):
        for position, row in zip(positions, ours, strict=True):
            theirs = library[2][position].numpy()
            assert np.array_equal(row, theirs[: len(row)]), SENTENCES[position]
            assert (theirs[len(row) :] == path.tokenizer.pad_id).all()


def test_pixels_are_the_librarys(library, source, pictures):
    spec = source.bundle.config.image
    mean, std = (np.array(v)[:, None, None] * 255 for v in (spec.mean, spec.std))
    for path in pictures:
        theirs = library[1](upright(path)).numpy() * std + mean
        difference = np.abs(load_pixels(path, spec) - theirs)
        assert difference.max() < 1.1, path.name
        assert difference.mean() < 0.1, path.name


def test_vectors_of_texts_are_the_librarys(library, embedder):
    with torch.no_grad():
        theirs = library[0].encode_text(library[2], normalize=True).numpy()
    ours = embedder.embed_texts(SENTENCES)
    assert cosines(ours, theirs).min() > 0.9999
    assert cosines(theirs[:1], theirs[2:5]).max() < 0.999  # or the comparison would say nothing


def test_vectors_of_pictures_are_the_librarys(library, embedder, pictures):
    encoder, transform, _ = library
    with torch.no_grad():
        batch = torch.stack([transform(upright(path)) for path in pictures])
        theirs = encoder.encode_image(batch, normalize=True).numpy()
    ours = embedder.embed_images(pictures)
    assert cosines(ours, theirs).min() > 0.9999
    assert cosines(theirs[:1], theirs[1:]).max() < 0.999
