from vireo_training.readers import read_data


def test_token_lines_are_joined_by_image(images, write, summary):
    images("flickr30k-images/1.jpg", "flickr30k-images/2.jpg")
    path = write(
        "results.token",
        "1.jpg#0\tHai người đàn ông .\n1.jpg#1\tHai anh em\r\n\n2.jpg#0\tMột con chó # 1\n",
    )
    assert summary(read_data(f"{path}@{path.parent}/flickr30k-images")) == [
        ("1.jpg", ("Hai người đàn ông .", "Hai anh em")),
        ("2.jpg", ("Một con chó # 1",)),
    ]


def test_broken_lines_are_skipped_with_their_numbers(images, write, reasons):
    images("1.jpg")
    path = write(
        "captions.txt",
        b"1.jpg#0\tt\xe1\xbb\x91t\nno tab\n1.jpg#1\t\xff\n1.jpg#2\t  \n9.jpg#0\tx\n",
    )
    found = reasons(read_data(path))
    assert [skip.split(": ")[0] for skip in found] == [f"captions.txt:{n}" for n in (2, 3, 4, 5)]
    assert "not name.jpg#0<TAB>caption" in found[0]
    assert "not UTF-8" in found[1]
    assert "empty caption" in found[2]
    assert "no such image" in found[3]


def test_lines_without_numbers_are_read(images, write, summary, reasons):
    images("1.jpg", "2.jpg")
    captions = read_data(write("x.txt", "1.jpg\tmột, hai\n1.jpg\tba\n2.jpg\tbốn\n2.jpg\ta\tb\n"))
    assert summary(captions) == [("1.jpg", ("một, hai", "ba")), ("2.jpg", ("bốn",))]
    assert reasons(captions) == ["x.txt:4: not name.jpg#0<TAB>caption or name.jpg<TAB>caption"]
