"""What each tracker has, read back by its own means: metric name -> [(step, value)], and what else it keeps."""

import struct
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

BLOCK = 32768  # of a .wandb file, a LevelDB log


class Kept(NamedTuple):
    """A run as a tracker has it."""

    metrics: dict[str, list[tuple[int, float]]]
    notes: str  # tags, texts and alerts, in one
    config: str
    pages: int


def tensorboard(folder: Path) -> Kept:
    """With TensorBoard's own reader."""
    module: Any = import_module("tensorboard.backend.event_processing.event_accumulator")
    (run,) = (folder / "tensorboard").iterdir()
    found = module.EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    metrics = {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    texts = {tag: str([e.tensor_proto.string_val for e in found.Tensors(tag)]) for tag in found.Tags()["tensors"]}
    return Kept(metrics, texts.get("rl/events", ""), texts["recipe"], 0)


def wandb(folder: Path) -> Kept:
    """The files that `wandb sync` uploads, in the order in which they were written."""
    metrics: dict[str, list[tuple[int, float]]] = {}
    notes, config, pages = "", "", 0
    for path in sorted((folder / "trackers" / "wandb").glob("offline-run-*/run-*.wandb")):
        for record in _records(path.read_bytes()):
            row = {"/".join(i.nested_key) or i.key: float(i.value_json) for i in record.history.item}
            for name, value in row.items():
                step = row.get(f"{name.partition('/')[0]}/step")
                if step is not None and not name.endswith("/step"):
                    metrics.setdefault(name, []).append((int(step), value))
            notes += " ".join(record.run.tags) + str(record.summary)
            config += str(record.config) if record.HasField("config") else ""
            pages += record.HasField("artifact")
    return Kept(metrics, notes, config, pages)


def _records(data: bytes) -> Iterator[Any]:
    """Protocol buffers in a LevelDB log with a header of 7 bytes."""
    Record: Any = import_module("wandb.proto.wandb_internal_pb2").Record
    place, part = 7, b""
    while place + 7 <= len(data):
        if (left := BLOCK - place % BLOCK) < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        part += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, last
            record = Record()
            record.ParseFromString(part)
            part = b""
            yield record


def mlflow(folder: Path) -> Kept:
    """With MLflow's client."""
    client: Any = import_module("mlflow.tracking").MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("yonder").experiment_id])
    metrics = {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    pages = sum(file.path == "report.html" for file in client.list_artifacts(run.info.run_id))
    return Kept(metrics, str(run.data.tags), str(run.data.params), pages)


def trackio(folder: Path) -> Kept:
    """From its database."""
    storage: Any = import_module("trackio.sqlite_storage").SQLiteStorage
    (run,) = storage.get_runs("yonder")
    metrics: dict[str, list[tuple[int, float]]] = {}
    for row in storage.get_logs("yonder", run):
        for name, value in row.items():
            if "/" in name:
                metrics.setdefault(name, []).append((row["step"], value))
    alerts, config = storage.get_alerts("yonder", run), storage.get_run_config("yonder", run)
    return Kept(metrics, str(alerts), str(config), len(storage.get_artifacts("yonder")))
