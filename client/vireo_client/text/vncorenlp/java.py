"""Reads a Java-serialised `Set<String>` without Java.

VnCoreNLP keeps its lexicon as a serialised `java.util.HashSet`. The layout is that of the "Java
Object Serialization Specification", chapter 6 (Object Serialization Stream Protocol):

    STREAM_MAGIC 0xACED, STREAM_VERSION 5,
    TC_OBJECT, TC_CLASSDESC, class name, serialVersionUID, flags, fields, annotation, super class,
    TC_BLOCKDATA of HashSet.writeObject: int capacity, float load factor, int size,
    `size` elements, TC_ENDBLOCKDATA.

Only that one shape is read: anything else is an error that says so, never a guess.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from vireo_client.errors import SegmenterError

_MAGIC = b"\xac\xed\x00\x05"
_TC_OBJECT, _TC_CLASSDESC = b"\x73", b"\x72"
_TC_STRING, _TC_LONGSTRING = 0x74, 0x7C
_TC_ENDBLOCKDATA, _TC_NULL = 0x78, 0x70
_SET = "java.util.HashSet"
# A string of fewer than 256 bytes starts with TC_STRING and a zero: in modified UTF-8 a zero byte
# occurs nowhere else, so that the whole set can be cut apart at once.
_SHORT_STRING = b"t\x00"


def read_string_set(path: Path) -> list[str]:
    """Read a serialised `HashSet<String>`.

    Args:
        path: The file.

    Returns:
        The strings in the order of the file.

    Raises:
        SegmenterError: If the file cannot be read, or is not such a set, or is cut short.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SegmenterError(f"lexicon {path}: cannot be read ({error.strerror})") from error
    try:
        start, size = _header(data)
        strings = _short_strings(data, start, size)
        return list(_any_strings(data, start, size)) if strings is None else strings
    except (IndexError, struct.error):
        reason = "it is cut short"
    except (ValueError, UnicodeError) as error:
        reason = str(error)
    raise SegmenterError(
        f"lexicon {path}: not a Java-serialised set of strings: {reason}; fetch the file again"
    )


def _header(data: bytes) -> tuple[int, int]:
    """Check the header; return the position of the elements, and their number."""
    if not data.startswith(_MAGIC):
        raise ValueError("it does not begin with Java's stream magic")
    if data[4:6] != _TC_OBJECT + _TC_CLASSDESC:
        raise ValueError("its first item is not an object")
    (length,) = struct.unpack_from(">H", data, 6)
    position = 8 + length
    name = data[8:position].decode("ascii", "replace")
    if name != _SET:
        raise ValueError(f"it holds a {name[:60]}")
    position += 8 + 1  # serialVersionUID, flags
    if data[position : position + 4] != b"\x00\x00" + bytes([_TC_ENDBLOCKDATA, _TC_NULL]):
        raise ValueError("its class description has fields")
    position += 4
    if data[position : position + 2] != b"\x77\x0c":
        raise ValueError("its set header is missing")
    _, _, size = struct.unpack_from(">ifi", data, position + 2)
    if size < 0:
        raise ValueError(f"its size is {size}")
    return position + 14, size


def _short_strings(data: bytes, start: int, size: int) -> list[str] | None:
    """Read the elements if all are plain strings under 256 bytes; otherwise return None.

    Every length is compared with what was cut, so a wrong cut cannot pass unseen.
    """
    parts = data[start:].split(_SHORT_STRING)
    if parts[0] or len(parts) != size + 1 or parts[-1][-1:] != bytes([_TC_ENDBLOCKDATA]):
        return None
    parts[-1] = parts[-1][:-1]
    del parts[0]
    if b"" in parts or [part[0] + 1 for part in parts] != list(map(len, parts)):
        return None
    try:
        text = b"".join([b"\n" + part[1:] for part in parts]).decode("utf-8")
    except UnicodeDecodeError:  # modified UTF-8's zero or surrogates
        return None
    strings = text.split("\n")[1:]
    return strings if len(strings) == size else None


def _any_strings(data: bytes, start: int, size: int) -> Iterator[str]:
    """Yield the elements one by one, in either of the protocol's two forms of a string."""
    position = start
    for _ in range(size):
        code = data[position]
        if code == _TC_STRING:
            (length,) = struct.unpack_from(">H", data, position + 1)
            position += 3
        elif code == _TC_LONGSTRING:
            (length,) = struct.unpack_from(">Q", data, position + 1)
            position += 9
        else:
            raise ValueError(f"an element at byte {position} is not a string")
        if position + length > len(data):
            raise IndexError
        yield decode_modified_utf8(data[position : position + length])
        position += length
    if data[position] != _TC_ENDBLOCKDATA:
        raise ValueError("it goes on after its last element")


def decode_modified_utf8(data: bytes) -> str:
    """Decode Java's modified UTF-8: U+0000 in two bytes, characters beyond U+FFFF as a pair.

    Args:
        data: The bytes.

    Returns:
        The text; a surrogate without its other half stays as it is.

    Raises:
        UnicodeDecodeError: If the bytes are not UTF-8 otherwise.
    """
    # 0xC0 begins no other sequence, so the replacement cannot touch anything else.
    text = data.replace(b"\xc0\x80", b"\x00").decode("utf-8", "surrogatepass")
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
