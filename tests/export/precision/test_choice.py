import pytest
from vireo_client.errors import ExportError
from vireo_export.precision import Precisions


@pytest.mark.parametrize(
    ("words", "text", "image"),
    [("fp32", "fp32", "fp32"), ("int8", "int8", "int8"), ("text=int8", "int8", "fp32"),
     ("text=int8, image=fp16", "int8", "fp16"), ("image=fp16", "fp32", "fp16")],
)  # fmt: skip
def test_one_word_or_one_for_each_tower(words, text, image):
    assert Precisions.parse(words) == Precisions(text, image)


@pytest.mark.parametrize(
    "words", ["", "fp8", "text=fp8", "sound=fp16", "text=int8,text=fp16", "text=", "fp16,int8"]
)
def test_anything_else_is_refused_by_name(words):
    with pytest.raises(ExportError, match="give one of fp32, fp16, int8"):
        Precisions.parse(words)
