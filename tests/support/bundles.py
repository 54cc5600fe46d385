"""A small bundle and its model repository, written by hand: quick, always the same, without torch.

The engines are real ONNX files that run in a moment. They learned nothing: a text becomes the mean
of random vectors of its letters, an image a random projection of its colours on a grid of 8 x 8.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from vireo_client.bundle import Bundle, BundleConfig, ImageSpec, write_config
from vireo_client.repository import (
    ENGINE_FILE,
    IMAGE_MODEL,
    PARITY_FILE,
    TEXT_MODEL,
    Versions,
    write_versions,
)
from vireo_client.text.pipeline import TextPath
from vireo_client.text.segment import load_segmenter
from vireo_client.text.tokenize import TextTokenizer

from support.text_models import write_model

DIM = 256
"""D, the embedding size."""
IMAGE_SIZE = 32
BUCKETS = (16, 32, 64)
PAD_ID = 1
_GRID = 8
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
_LETTERS = (
    "aàáảãạăằắẳẵặâầấẩẫậbcdđeèéẻẽẹêềếểễệfghiìíỉĩịjklmnoòóỏõọôồốổỗộơờớởỡợpqrstuùúủũụưừứửữự"
    "vwxyỳýỷỹỵz0123456789_.,!?"
)


def write_bundle(folder: Path, bundle_id: str = "small-bundle-0001") -> Bundle:
    """Write `bundle.json`, the tokenizer and the segmenter's files; there are no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    write_model(folder)
    text_path = TextPath(
        load_segmenter("vncorenlp", folder), TextTokenizer(letter_tokenizer(), BUCKETS)
    )
    text_path.tokenizer.save(folder)
    config = BundleConfig(
        bundle_id=bundle_id,
        embedding_dim=DIM,
        image=ImageSpec(size=IMAGE_SIZE, resize=36, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        text=text_path.spec(),
        model={"written": "by hand"},
        provenance={"pictures": {"train": 0}},
    )
    write_config(folder, config)
    return Bundle(folder)


def write_repository(folder: Path, bundle_id: str = "small-bundle-0001") -> Bundle:
    """Write the bundle as a model repository: its two engines, as version 1."""
    bundle = write_bundle(folder, bundle_id)
    vocab_size = bundle.config.text.vocab_size
    for model, engine in ((TEXT_MODEL, text_engine(vocab_size)), (IMAGE_MODEL, image_engine())):
        path = folder / model / "1" / ENGINE_FILE
        path.parent.mkdir(parents=True)
        onnx.save(engine, path)
    (folder / PARITY_FILE).write_text(json.dumps({"written": "by hand"}), encoding="utf-8")
    write_versions(folder, Versions(1, (1,)))
    return bundle


def letter_tokenizer() -> Tokenizer:
    """Make a tokenizer with a token for each lower-case letter of Vietnamese."""
    pieces = (*_SPECIAL, *_LETTERS)
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in _SPECIAL])
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def text_engine(vocab_size: int) -> onnx.ModelProto:
    """Make a text tower: INT32 `input_ids` `[N, L]` to FP32 `embedding` `[N, D]`, unit length."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["letters"]),
        helper.make_node("Equal", ["input_ids", "pad"], ["is_pad"]),
        helper.make_node("Not", ["is_pad"], ["is_text"]),
        helper.make_node("Cast", ["is_text"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last"], ["column"]),
        helper.make_node("Mul", ["letters", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "second"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["column", "second"], ["count"], keepdims=0),
        helper.make_node("Max", ["count", "one"], ["divisor"]),
        helper.make_node("Div", ["sum", "divisor"], ["features"]),
    ]
    constants = {
        "table": _random(vocab_size, DIM),
        "pad": np.array(PAD_ID, np.int32),
        "last": np.array([-1]),
        "second": np.array([1]),
        "one": np.array(1, np.float32),
    }
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["N", "L"])
    return _engine(nodes, ids, constants)


def image_engine() -> onnx.ModelProto:
    """Make an image tower: UINT8 `pixels` `[N, 3, H, W]` to FP32 `embedding` `[N, D]`."""
    side = IMAGE_SIZE // _GRID
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["floats", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["normalized"]),
        helper.make_node(
            "AveragePool", ["normalized"], ["grid"], kernel_shape=[side] * 2, strides=[side] * 2
        ),
        helper.make_node("Flatten", ["grid"], ["colours"], axis=1),
        helper.make_node("MatMul", ["colours", "projection"], ["features"]),
    ]
    constants = {
        "mean": np.array(127.5, np.float32),
        "scale": np.array(63.75, np.float32),
        "projection": _random(3 * _GRID * _GRID, DIM),
    }
    shape = ["N", 3, IMAGE_SIZE, IMAGE_SIZE]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape)
    return _engine(nodes, pixels, constants)


def _engine(
    nodes: Sequence[onnx.NodeProto],
    tower_input: onnx.ValueInfoProto,
    constants: dict[str, npt.NDArray[np.generic]],
) -> onnx.ModelProto:
    """Put `features` `[N, D]` to unit length, as the output `embedding`."""
    unit_length = [
        helper.make_node("ReduceL2", ["features"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Max", ["length", "tiny"], ["safe_length"]),
        helper.make_node("Div", ["features", "safe_length"], ["embedding"]),
    ]
    constants = constants | {"tiny": np.array(1e-12, np.float32)}
    graph = helper.make_graph(
        [*nodes, *unit_length],
        "tower",
        [tower_input],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", DIM])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _random(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)
