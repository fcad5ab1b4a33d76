"""Complete lines of a file that somebody else is writing, renaming and truncating. No database.

A file is opened, read briefly and closed: on Windows a writer cannot rename it meanwhile.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from identity import strictjson
from identity.robotlog import MAX_LINE_BYTES, is_blank

HEAD_BYTES = 64 * 1024
CHUNK_BYTES = 2 * 1024 * 1024
WINDOW_BYTES = 256
FINGERPRINT_LENGTH = 56


@dataclass(slots=True)
class FileLine:
    """A line without its end; `end` is where the next begins, `cut` that it was too long."""

    offset: int
    content: bytes
    end: int
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some complete lines in a row, and where reading goes on.

    `last_read` is the hash of the bytes before `end`, `rest` what stands behind the last line's
    end when the file's end was reached: a line that is being written, or was cut off.
    """

    lines: list[FileLine]
    end: int
    last_read: str
    reached_end: bool
    rest: bytes = b""


def fingerprint_of(path: Path, *, whole: bool = False) -> str | None:
    """What tells this file from others, however it is renamed, and however it grows.

    The hash of its first line that is not blank; None while that line has no end yet, unless
    `whole` takes it for complete if it is a JSON object. Raises OSError.
    """
    with path.open("rb") as file:
        return _fingerprint(file, whole=whole)


def unfinished_line(path: Path) -> bytes:
    """The beginning of a file without any complete line; empty if it is blank. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return b"" if is_blank(head) else head


def read_chunk(
    path: Path,
    fingerprint: str,
    read_so_far: list[tuple[int, str]],
    *,
    most: int,
    whole: bool = False,
) -> tuple[int, Chunk] | None:
    """The lines after the first of `read_so_far`, (offset, last_read) pairs, that fits this file.

    Returns that pair's index and a chunk of at most `most` lines; None where the file is another
    one by now, or none fits: it was truncated and written anew. `whole` takes a last line without
    an end for complete if it is a JSON object. Raises OSError.
    """
    with path.open("rb") as file:
        if _fingerprint(file, whole=whole) != fingerprint:
            return None
        for index, (offset, last_read) in enumerate(read_so_far):
            if _window_hash(file, offset) == last_read:
                return index, _read_from(file, offset, most, whole=whole)
    return None


def count_lines(path: Path, end: int) -> int:
    """How many lines that are not blank stand before byte `end`; raises OSError."""
    count = 0
    with path.open("rb") as file:
        while file.tell() < end and (line := file.readline(end - file.tell())):
            count += not is_blank(line)
    return count


def _fingerprint(file: BinaryIO, *, whole: bool) -> str | None:
    file.seek(0)
    head = file.read(HEAD_BYTES)
    start = 0
    while True:
        end = head.find(b"\n", start)
        if end < 0:
            if len(head) < HEAD_BYTES and not (whole and _is_object(head[start:])):
                return None
            # A line that may still lack its line feed may lack the carriage return as well.
            return _digest(head.rstrip(b"\r"))
        if not is_blank(head[start:end]):
            return _digest(head[:end].rstrip(b"\r"))
        start = end + 1


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:FINGERPRINT_LENGTH]


def _window_hash(file: BinaryIO, offset: int) -> str | None:
    """The hash of the bytes before `offset`; None where the file is shorter than that."""
    if offset == 0:
        return ""
    start = max(0, offset - WINDOW_BYTES)
    file.seek(start)
    window = file.read(offset - start)
    return hashlib.sha256(window).hexdigest() if len(window) == offset - start else None


def _read_from(file: BinaryIO, offset: int, most: int, *, whole: bool) -> Chunk:
    file.seek(offset)
    content = file.read(CHUNK_BYTES)
    reached_end = len(content) < CHUNK_BYTES
    *complete, rest = content.split(b"\n", most)
    if len(complete) == most:
        reached_end = False
    lines: list[FileLine] = []
    start = offset
    for line in complete:
        end = start + len(line) + 1
        lines.append(FileLine(start, line, end))
        start = end
    if not lines and not reached_end:
        long_line, rest = _long_line(file, offset)
        lines, reached_end = ([long_line], False) if long_line else ([], True)
    elif not reached_end:
        rest = b""
    if whole and rest and _is_object(rest):
        end_at = (lines[-1].end if lines else offset) + len(rest)
        lines.append(FileLine(end_at - len(rest), rest, end_at))
        rest = b""
    end_at = lines[-1].end if lines else offset
    return Chunk(lines, end_at, _window_hash(file, end_at) or "", reached_end, rest)


def _long_line(file: BinaryIO, offset: int) -> tuple[FileLine | None, bytes]:
    """The line at `offset`, longer than a chunk; only its beginning is kept if it is too long."""
    file.seek(offset)
    kept, length = bytearray(), 0
    while True:
        more = file.read(CHUNK_BYTES)
        found = more.find(b"\n")
        part = more if found < 0 else more[:found]
        kept += part[: MAX_LINE_BYTES + 1 - len(kept)]
        length += len(part)
        if found >= 0:
            cut = length > MAX_LINE_BYTES
            return FileLine(offset, bytes(kept), offset + length + 1, cut), b""
        if len(more) < CHUNK_BYTES:
            return None, bytes(kept)


def _is_object(content: bytes) -> bool:
    # No beginning of a JSON object is one itself, so this line is complete but for its end.
    try:
        return isinstance(strictjson.loads(content.decode("utf-8-sig").strip()), dict)
    except (strictjson.NotReadable, UnicodeDecodeError):
        return False
