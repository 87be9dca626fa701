"""The end of a growing log: each look reads only what was appended since the last one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from yonder.reporting.records import parse_line

_MARK = 64  # bytes before the place reached, by which a rewritten file is told from one that grew
_PIECE = 4096  # bytes given to the decompressor at once: what follows a frame's end is copied


class Tail:
    """A JSONL file, plain or of zstd frames. A line or frame that is not whole yet waits for the next look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._place, self._inode, self._mark = 0, 0, b""

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """Rows that are new, and whether they are the first: the file is new, or was written anew by a resumed run."""
        try:
            with self.path.open("rb") as file:
                first = self._begins_again(file)
                file.seek(self._place)
                data = file.read()
        except OSError:
            first, data = self._place > 0, b""
            self._place, self._inode, self._mark = 0, 0, b""
        text, used = _whole_frames(data) if self.path.suffix == ".zst" else _whole_lines(data)
        self._place += used
        self._mark = (self._mark + data[:used])[-_MARK:]
        return _rows(text), first

    def _begins_again(self, file: BinaryIO) -> bool:
        inode = os.fstat(file.fileno()).st_ino
        file.seek(max(0, self._place - len(self._mark)))
        if self._place and inode == self._inode and file.read(len(self._mark)) == self._mark:
            return False
        self._place, self._inode, self._mark = 0, inode, b""
        return True


def _whole_lines(data: bytes) -> tuple[bytes, int]:
    """The lines that have ended, and how many bytes they are."""
    used = data.rfind(b"\n") + 1
    return data[:used], used


def _whole_frames(data: bytes) -> tuple[bytes, int]:
    """The text of the frames that are whole, and how many bytes they were; a damaged one ends it."""
    texts: list[bytes] = []
    used = at = 0
    reader = zstandard.ZstdDecompressor().decompressobj()
    parts: list[bytes] = []
    while at < len(data):
        piece = data[at : at + _PIECE]
        try:
            parts.append(reader.decompress(piece))
        except zstandard.ZstdError:
            break
        at += len(piece)
        if reader.eof:
            at -= len(reader.unused_data)
            used = at
            texts += parts
            parts, reader = [], zstandard.ZstdDecompressor().decompressobj()
    return b"".join(texts), used


def _rows(text: bytes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for line in text.split(b"\n"):
        try:
            value = parse_line(line.decode("utf-8", "replace")) if line.strip() else None
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            rows.append(value)
    return rows
