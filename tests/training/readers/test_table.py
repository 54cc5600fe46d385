import unicodedata

import pytest
from vireo_client.errors import DataError
from vireo_training.readers import read_data


@pytest.mark.parametrize(
    "text",
    [
        'image,caption\n1.jpg,"một, hai"\n1.jpg,ba\n2.jpg,"bốn\nnăm"\n',
        'caption;file_name\r\n"một, hai";1.jpg\r\nba;1.jpg\r\n"bốn\nnăm";2.jpg\r\n',
        '\ufeffid\timage\tcaption\n0\t1.jpg\tmột, hai\n\n1\t1.jpg\tba\n2\t2.jpg\t"bốn\nnăm"\n',
    ],
)
def test_delimiter_and_columns_are_found_by_the_header(images, write, summary, text):
    images("1.jpg", "2.jpg")
    assert summary(read_data(write("captions.csv", text))) == [
        ("1.jpg", ("một, hai", "ba")),
        ("2.jpg", ("bốn\nnăm",)),
    ]


def test_flickr30k_table_with_a_row_that_lacks_a_bar(images, write, summary, reasons):
    images("1.jpg", "2.jpg")
    path = write(
        "results.csv",
        "image_name| comment_number| comment\n"
        '1.jpg| 0| Biển hiệu "mở cửa\n'
        "1.jpg| 4   Một con chó chạy .\n"
        "2.jpg| 0| hai\n",
    )
    captions = read_data(path)
    assert summary(captions) == [("1.jpg", ('Biển hiệu "mở cửa',)), ("2.jpg", ("hai",))]
    assert reasons(captions) == ["results.csv:3: 2 fields where the header has 3"]


def test_several_caption_columns(images, write, summary, reasons):
    images("1.jpg", "2.jpg")
    path = write("x.csv", "image,caption_0,caption_1\n1.jpg,một,hai\n1.jpg,ba,\n2.jpg,,\n")
    captions = read_data(path)
    assert summary(captions) == [("1.jpg", ("một", "hai", "ba"))]
    assert reasons(captions) == ["x.csv:4: 1 empty caption(s)"]


def test_broken_rows_are_skipped_with_their_lines(images, write, summary, reasons):
    images("1.jpg")
    path = write(
        "x.csv",
        b"image,caption\n1.jpg,t\xe1\xbb\x91t\n1.jpg,\xff\n,x\n9.jpg,x\n1.jpg,a,b\n"
        b'1.jpg,"never closed\n1.jpg,swallowed\n',
    )
    captions = read_data(path)
    assert summary(captions) == [("1.jpg", ("tốt",))]
    found = reasons(captions)
    assert found[0] == "x.csv:3: not UTF-8"
    assert found[1] == 'x.csv:4: "image" must be the path of an image'
    assert found[2].startswith("x.csv:5: no such image")
    assert found[3] == "x.csv:6: 3 fields where the header has 2"
    assert found[4].startswith("x.csv:7: not a row of a table, up to line 8")
    assert len(found) == 5


@pytest.mark.parametrize("cell", ['["c1", "c2"]', "['c1', 'c2']"])
def test_a_list_in_a_cell_is_several_captions(images, write, summary, cell):
    images("1.jpg")
    quoted = cell.replace('"', '""')
    path = write("x.csv", f'raw,filename\n"{quoted}",1.jpg\n[c3],1.jpg\n')
    assert summary(read_data(path)) == [("1.jpg", ("c1", "c2", "[c3]"))]


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ("image,caption", '1.jpg,"một, hai"\n2.jpg,ba\n'),
        ("image,caption", "\ufeff1.jpg\tmột, hai\n2.jpg\tba\n"),
        ("id,caption,image", '1;"một, hai";1.jpg\n2;ba;2.jpg\n'),
        ("image,number,caption", "1.jpg| 0| một, hai\n2.jpg| 0| ba\n"),
        ("image,caption", 'image,caption\n1.jpg,"một, hai"\n2.jpg,ba\n'),
    ],
)
def test_columns_name_those_of_a_table_without_a_header(images, write, summary, columns, text):
    images("1.jpg", "2.jpg")
    captions = read_data(write("x.csv", text), columns=columns.split(","))
    assert summary(captions) == [("1.jpg", ("một, hai",)), ("2.jpg", ("ba",))]


def test_rows_of_a_table_without_a_header_count_from_1(images, write, reasons):
    images("1.jpg")
    path = write("x.csv", "1.jpg,a\n9.jpg,b\n1.jpg,c,d\n")
    found = reasons(read_data(path, columns=["image", "caption"]))
    assert [reason.split(": ")[0] for reason in found] == ["x.csv:2", "x.csv:3"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("image,words", "--columns image,words: name a column of images"),
        ("image,id,caption", r"x\.csv:1: not 3 columns"),
        ("", "--columns image,caption"),
    ],
)
def test_columns_that_do_not_fit_are_an_error(write, columns, message):
    path = write("x.csv", "1.jpg,a\n")
    with pytest.raises(DataError, match=message):
        read_data(path, columns=columns.split(",") if columns else ())


def test_a_header_without_the_columns_is_an_error(write):
    path = write("x.csv", "a,b\n1,2\n")
    with pytest.raises(DataError, match=r"x\.csv:1: the header names no image and caption"):
        read_data(path, file_format="csv")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_excels_tables_with_vietnamese_headers_are_read(images, write, summary, encoding):
    images("1.jpg", "2.jpg")
    text = "Tên ảnh\tMô tả 1\tMô tả 2\r\n1.jpg\tmột\thai\r\n2.jpg\tba\t\r\n"
    captions = read_data(write("x.csv", text.encode(encoding)))
    assert summary(captions) == [("1.jpg", ("một", "hai")), ("2.jpg", ("ba",))]


@pytest.mark.parametrize(
    "header", ["ảnh,chú thích", "HÌNH ẢNH,Câu mô tả", "hình,mô_tả", "tên tệp,câu", "file name,text"]
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_headers_in_vietnamese(images, write, summary, header, form):
    images("1.jpg")
    text = unicodedata.normalize(form, header) + "\n1.jpg,một\n"
    assert summary(read_data(write("x.csv", text))) == [("1.jpg", ("một",))]


def test_utf16_that_is_no_table_is_named(write):
    path = write("x.txt", "ảnh một\nhai".encode("utf-16"))
    with pytest.raises(DataError, match=r"x\.txt:1: is UTF-16.*begins 'ảnh một'; name them with"):
        read_data(path)
