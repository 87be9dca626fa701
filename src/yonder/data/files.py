"""Questions from local files: .jsonl, .jsonl.gz, .json, .csv, .parquet."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from yonder.data.columns import Row, records_from_rows
from yonder.data.records import Record
from yonder.errors import DataError

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet")


def is_file_name(source: str) -> bool:
    """Whether a recipe's `source` means a file rather than the name of a data set."""
    return source.endswith(SUFFIXES) or source.startswith((".", "/", "~"))


def read_file(path: str | Path, columns: Mapping[str, str]) -> list[Record]:
    """The records of a file, in its order; rows without an id get their number.

    DataError for what `read_rows` and `records_from_rows` refuse.
    """
    return records_from_rows(read_rows(path), columns, str(Path(path).expanduser()))


def read_rows(path: str | Path) -> list[Row]:
    """The rows of a file, in its order, each with the place where it stands.

    DataError for a file that is missing, not UTF-8, of another kind than its name says, or that has a broken line
    (named with its number).
    """
    path = Path(path).expanduser()
    check_file(path)
    reader = next((read for suffix, read in _READERS.items() if path.name.endswith(suffix)), None)
    if reader is None:
        raise DataError(f"{path}: only {', '.join(SUFFIXES)} files can be read; convert it to one of these")
    try:
        return list(reader(path))
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}; check the file and its permissions"
        ) from error


def check_file(path: Path) -> None:
    """DataError where there is no such file; it says what is there instead."""
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a file; {_hint(path / 'x')}")
    if not path.is_file():
        raise DataError(f"there is no file {path}; {_hint(path)}")


def _hint(path: Path) -> str:
    begin = "" if path.is_absolute() else "; relative paths begin at the folder that the command is typed in"
    folder = path.parent.absolute()
    if not folder.is_dir():
        return f"there is no folder {folder} either{begin}"
    files = sorted(file.name for file in folder.iterdir() if file.name.endswith(SUFFIXES))
    have = ", ".join(files[:8]) or f"no {', '.join(SUFFIXES)} file"
    return f"{folder} has {have}{begin}"


def _bytes(path: Path) -> bytes:
    data = path.read_bytes()
    if path.name.endswith(".gz"):
        try:
            return gzip.decompress(data)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{path} is not a complete gzip file ({error}); download or compress it again") from error
    return data


def _decode(data: bytes, where: str, name: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{data[error.start]:02x}"
        mend = f"convert it: iconv -f WINDOWS-1252 -t UTF-8 {name}"
        raise DataError(f"{where}: not UTF-8 ({found} at {error.start + 1}); {mend}") from error


def _json(text: str, where: str, mend: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        said = error.msg.removesuffix(" at")
        raise DataError(f"{where}: not JSON ({said} at character {error.colno}); {mend}") from error
    except RecursionError as error:
        raise DataError(f"{where}: nested too deeply; {mend}") from error


def _jsonl(path: Path) -> Iterator[Row]:
    data = _bytes(path).removeprefix(b"\xef\xbb\xbf")
    for number, line in enumerate(data.split(b"\n"), start=1):
        where = f"{path}, line {number}"
        text = _decode(line, where, path.name).strip()
        if not text:
            continue
        value = _json(text, where, "mend or delete the line")
        if not isinstance(value, dict):
            mend = "rename the file to .json" if number == 1 and isinstance(value, list) else 'write {"question": ...}'
            raise DataError(f"{where}: a {type(value).__name__}, not an object; {mend}")
        yield Row(where, cast(dict[str, Any], value))


def _json_list(path: Path) -> Iterator[Row]:
    text = _decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), str(path), path.name)
    value = _json(text, str(path), "if it has one object a line, rename it to .jsonl") if text.strip() else []
    if not isinstance(value, list):
        raise DataError(f"{path}: a {type(value).__name__}, not a list of objects; write [{{...}}, ...]")
    for number, row in enumerate(cast(list[object], value), start=1):
        where = f"{path}, item {number}"
        if not isinstance(row, dict):
            raise DataError(f'{where}: a {type(row).__name__}, not an object; write {{"question": ...}}')
        yield Row(where, cast(dict[str, Any], row))


def _csv(path: Path) -> Iterator[Row]:
    text = _decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), str(path), path.name)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    limit = csv.field_size_limit(max(len(text), 1))
    try:
        for values in reader:
            where = f"{path}, line {reader.line_num}"
            if None in values or None in values.values():
                count = len(reader.fieldnames or ())
                mend = "put double quotes around fields that hold commas or line breaks"
                raise DataError(f"{where}: the header has {count} columns, this row has another number; {mend}")
            yield Row(where, {name: value if value != "" else None for name, value in values.items()})
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV ({error}); mend the quotes") from error
    finally:
        csv.field_size_limit(limit)


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.ParquetFile(path).read().to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(
            f"{path} is not a Parquet file ({str(error).splitlines()[0]}); write or download it again"
        ) from error
    for number, row in enumerate(rows, start=1):
        yield Row(f"{path}, row {number}", row)


_READERS = {".jsonl": _jsonl, ".jsonl.gz": _jsonl, ".json": _json_list, ".csv": _csv, ".parquet": _parquet}
