"""Reading a damaged file gives records, skips, or an error of ours, whatever the damage."""

import io
import random
import tarfile

import pytest
from vireo_client.errors import VireoError
from vireo_training.readers import read_data

COCO = """{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
"annotations": [{"image_id": 1, "%s": "chợ nổi", "%s": "một chiếc thuyền nhỏ"},
{"image_id": 2, "%s": "ở đâu", "%s": "trên sông Cần Thơ"}]}"""
TEXTS = {
    "x.jsonl": '{"image": "a.jpg", "captions": ["một", "hai"]}\n{"image": "b.jpg"}',
    "coco.json": COCO % (("caption", "segment_caption") * 2),
    "evjvqa.json": COCO % (("question", "answer") * 2),
    "list.json": '[{"file_name": "a.jpg", "caption": "một"}, {"image": "b.jpg", "captions": []}]',
    "x.token": "a.jpg#0\tmột\nb.jpg#0\thai",
    "x.csv": 'image,caption\na.jpg,"một, hai"\nb.jpg,ba',
    "bars.csv": "image_name| comment_number| comment\na.jpg| 0| một\nb.jpg| 0| hai",
}


def tar_bytes(image: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in (
            ("1.jpg", image),
            ("1.txt", b"a"),
            ("2.jpg", image),
            ("2.txt", b"b"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def parquet_bytes(image: bytes) -> bytes:
    pa = pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": [image, image], "caption": ["một", "hai"]}), buffer)
    return buffer.getvalue()


def damaged(data: bytes, seed: int) -> bytes:
    rng = random.Random(seed)
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(changed) + 1)
        match rng.randrange(4):
            case 0:
                changed[start : start + 1] = rng.randbytes(1)
            case 1:
                del changed[start : start + rng.randint(1, 40)]
            case 2:
                changed[start:start] = changed[: rng.randint(1, 40)]
            case _:
                del changed[start:]
    return bytes(changed)


@pytest.mark.parametrize("name", [*TEXTS, "x.tar", "x.parquet"])
def test_damage_is_a_skip_or_an_error_that_names_it(images, write, tmp_path, name):
    image = images("a.jpg", "b.jpg")[0].read_bytes()[:1500]
    if name == "x.tar":
        data = tar_bytes(image)
    elif name == "x.parquet":
        data = parquet_bytes(image)
    else:
        data = TEXTS[name].encode()
    for seed in range(60):
        path = write(name, damaged(data, seed))
        try:
            captions = read_data(path, scratch=tmp_path / f"scratch-{seed}")
        except VireoError:
            continue
        assert captions.records
        for record in captions.records:
            assert record.path.is_file()
            assert all(caption.strip() for caption in record.captions)
        assert all(str(skip).encode() for skip in captions.skipped)
