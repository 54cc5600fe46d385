"""Headers of tars that say what no honest one does."""

import tarfile


def tar_header(name: bytes, size: int, kind: bytes = b"0", sparse: int | None = None) -> bytes:
    """Return a tar header with any size in it."""
    block = bytearray(512)

    def put(start, value):
        block[start : start + len(value)] = value

    def number(value):
        return b"\xff" + value.to_bytes(11, "big", signed=True) if value < 0 else b"%011o\0" % value

    put(0, name)
    put(100, b"0000644\0")
    put(124, number(size))
    put(136, number(0))
    put(148, b" " * 8)
    put(156, kind)
    put(257, b"ustar  \0")
    if sparse is not None:
        put(386, number(sparse))
        put(398, number(0))
        put(483, number(sparse))
    put(148, b"%06o\0 " % sum(block))
    return bytes(block)


def pax_header(**headers: str) -> bytes:
    """Return the headers of an empty `1.jpg`, with `headers` in the first of them."""
    info = tarfile.TarInfo("1.jpg")
    info.pax_headers = headers
    return info.tobuf(tarfile.PAX_FORMAT)
