"""Items of a judge benchmark from a file, a downloaded copy, or the hub."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from yonder.data.columns import Row
from yonder.data.files import read_rows
from yonder.data.hub import load_rows
from yonder.errors import DataError
from yonder.evaluation.judge_benchmarks.base import Benchmark, Item, check_columns


def read_items(benchmark: Benchmark, file: Path | None, split: str | None, limit: int | None) -> list[Item]:
    """The items of a file, of a folder with a downloaded copy, or of the hub; at most `limit` of each group.

    DataError names the file, line and column that cannot be used; also for a split that the benchmark does not have.
    """
    if split is not None and split not in benchmark.splits:
        raise DataError(f"{benchmark.title} has no split `{split}`; it has {', '.join(benchmark.splits)}")
    if limit is not None and limit < 1:
        raise DataError(f"--limit {limit}: give 1 or more items of each group")
    if file is not None and not file.is_dir():
        if split is not None:
            raise DataError(f"--split {split} is of the hub; a file is read whole, so leave it out")
        source, rows = str(file), read_rows(file)
    else:
        source, rows = _from_hub(benchmark, file, [split] if split else benchmark.default)
    check_columns(rows, benchmark.columns, source, benchmark.title)
    items = [benchmark.read(row) for row in rows]
    _check_pairs(rows, items)
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        groups.setdefault((item.group, item.kind), []).append(item)
    return [item for group in groups.values() for item in islice(group, limit)]


def _from_hub(benchmark: Benchmark, folder: Path | None, splits: Sequence[str]) -> tuple[str, list[Row]]:
    source = f"hub:{benchmark.repository}" if folder is None else str(folder)
    options = {} if folder is None else {"path": str(folder)}
    local = "give the file or the folder as --file"
    return source, [
        Row(f"{source}, split {split}, row {number}", row)
        for split in splits
        for number, row in enumerate(load_rows(source, benchmark.repository, None, split, options, local))
    ]


def _check_pairs(rows: Sequence[Row], items: Sequence[Item]) -> None:
    """Items of a kind are matched by id, so an id may occur once."""
    seen: set[str] = set()
    for row, item in zip(rows, items, strict=True):
        if item.kind and item.id in seen:
            raise DataError(f"{row.where}: the id {item.id!r} occurs a second time; delete one of the rows")
        seen |= {item.id} if item.kind else set()
