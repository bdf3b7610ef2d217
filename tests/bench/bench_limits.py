"""What bounds a run: memory under a hard limit, planning without reading, workers that scale, memory foreseen.

python tests/bench/bench_limits.py [--work /tmp/batchconv-bench] [--only limit,plan,scaling,foreseen] [--gigabytes 8]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from make_big import field, header, node, tensor, value_info
from measure import big, once, warm

BIN = Path(sys.executable).parent
BATCHCONV = str(BIN / "batchconv")
LIMIT = 3 << 29
"""1.5 GiB."""


def bench_limit(work: Path, gigabytes: float) -> None:
    """A model of that size converts to int4 with every process under RLIMIT_AS 1.5 GiB."""
    model = huge(work, gigabytes)
    out = fresh(work / "out")
    limited = ["prlimit", f"--as={LIMIT}", BATCHCONV, "convert", str(model), "-o", str(out / "m.xml"), "--precision"]
    seconds, peak = once([*limited, "int4_sym"])
    print(f"{gigabytes:g} GB to int4_sym under RLIMIT_AS 1.5 GiB: {seconds:.1f} s, peak {peak / 1e6:.0f} MB")
    manifest = manifest_of(work, model, out, "int4_sym")
    seconds, peak = once(["prlimit", f"--as={LIMIT}", BATCHCONV, "run", str(manifest), "--workers", "2"])
    print(
        f"the same on a cluster of 2 workers, every process limited: {seconds:.1f} s, driver's peak {peak / 1e6:.0f} MB"
    )


def huge(work: Path, gigabytes: float) -> Path:
    """A model of that size, whose matrices repeat."""
    count = round(gigabytes * 1e9 / (4 * 3072 * 3072))
    return big(work / f"huge{gigabytes:g}.onnx", "--matrices", str(count), "--external", "--repeat-block")


def bench_plan(work: Path, _: float) -> None:
    """100,000 weights, and 500 GB declared: under 3 s and 300 MB, with no payload there to be read."""
    for label, count, size in (("100,000 weights", 100_000, 64), ("500 GB", 3_000, 6_464)):
        model = declared(work / f"declared{count}.onnx", count, size)
        manifest = manifest_of(work, model, fresh(work / "out"), "int4_sym")
        seconds, peak = once([BATCHCONV, "plan", str(manifest)])
        total = count * size * size * 4 / 1e9
        print(f"plan of {label} ({total:.0f} GB): {seconds:.2f} s, peak {peak / 1e6:.0f} MB")


def declared(path: Path, count: int, size: int) -> Path:
    """A chain of square matrices that lie in an external file which is all hole."""
    nbytes = 4 * size * size
    data = path.with_name(path.name + ".data")
    nodes, tensors, last = [], [], "x"
    for i in range(count):
        tensors.append(field(5, tensor(f"w{i}", (size, size), external=(data.name, i * nbytes, nbytes))))
        nodes.append(field(1, node("MatMul", [last, f"w{i}"], f"y{i}")))
        last = f"y{i}"
    graph = b"".join(nodes) + field(2, b"declared") + b"".join(tensors)
    graph += field(11, value_info("x", ("n", size))) + field(12, value_info(last, ("n", size)))
    path.write_bytes(field(1, 8) + field(8, field(2, 17)) + header(7, len(graph)) + graph)
    with data.open("wb") as file:
        file.truncate(count * nbytes)
    return path


def bench_scaling(work: Path, gigabytes: float) -> None:
    """One model on 1 worker and on 2; beside it what the machine gives to two conversions that share nothing."""
    model = huge(work, gigabytes)
    for precision in ("fp16", "int8_asym", "int4_sym", "nf4"):
        seconds: dict[str, float] = {}
        for _ in range(2):
            for workers in (1, 2):
                least(seconds, f"workers {workers}", on_workers(work, model, precision, workers))
                least(seconds, f"alone {workers}", side_by_side(work, model, precision, workers))
        one, two = seconds["workers 1"], seconds["workers 2"]
        limit = seconds["alone 1"] / seconds["alone 2"]
        print(
            f"{precision}: 1 worker {one:.2f} s, 2 workers {two:.2f} s, efficiency {one / two / 2:.0%}; "
            f"the machine itself {limit:.0%} (one conversion {seconds['alone 1']:.2f} s, two at once "
            f"{seconds['alone 2']:.2f} s)"
        )


def least(seconds: dict[str, float], key: str, took: float) -> None:
    seconds[key] = min(took, seconds.get(key, took))


def on_workers(work: Path, model: Path, precision: str, workers: int) -> float:
    """Seconds from the model's first task to its last."""
    manifest = manifest_of(work, model, fresh(work / "out"), precision, threads=1)
    warm(Path(f"{model}.data"))
    once([BATCHCONV, "run", str(manifest), "--workers", str(workers)])
    report = json.loads((work / "out" / "report.json").read_text())
    return float(report["artifacts"][0]["seconds"])


def side_by_side(work: Path, model: Path, precision: str, count: int) -> float:
    """Seconds until `count` conversions of the model by one thread each, started together, have all ended."""
    out = fresh(work / "out")
    warm(Path(f"{model}.data"))
    command = [BATCHCONV, "convert", str(model), "--threads", "1", "--precision", precision, "-o"]
    start = time.perf_counter()
    running = [subprocess.Popen([*command, str(out / f"m{i}.xml")], stdout=subprocess.DEVNULL) for i in range(count)]
    if any(process.wait() for process in running):
        sys.exit(f"a conversion of {model} failed")
    return time.perf_counter() - start


def bench_foreseen(work: Path, _: float) -> None:
    """Memory foreseen and measured, for each format: measured <= foreseen <= 2 x measured."""
    model = big(work / "big3072.onnx")
    for precision in (
        "fp32",
        "fp16",
        "int8_asym",
        "int4_sym",
        "nf4",
        "mxfp4",
        "nvfp4",
        "fp8_e4m3",
        "mxfp8_e4m3",
        "cb4",
    ):
        manifest = manifest_of(work, model, fresh(work / "out"), precision)
        once([BATCHCONV, "run", str(manifest), "--workers", "2"])
        row = json.loads((work / "out" / "report.json").read_text())["artifacts"][0]
        foreseen, measured = row["memory_foreseen"], row["memory_measured"]
        verdict = "" if measured <= foreseen <= 2 * measured else "   OUTSIDE"
        print(f"{precision:10} foreseen {foreseen / 1e6:5.0f} MB, measured {measured / 1e6:5.0f} MB{verdict}")


def manifest_of(work: Path, model: Path, out: Path, precision: str, **engine: int) -> Path:
    """A manifest of one model, as JSON."""
    path = work / "manifest.json"
    entry = {"name": "m", "model": str(model), "precisions": [precision]}
    path.write_text(json.dumps({"output": str(out), "models": [entry], "engine": engine}))
    return path


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


BENCHES: dict[str, Callable[[Path, float], None]] = {
    "plan": bench_plan,
    "foreseen": bench_foreseen,
    "scaling": bench_scaling,
    "limit": bench_limit,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("/tmp/batchconv-bench"))
    parser.add_argument("--only", default=",".join(BENCHES))
    parser.add_argument("--gigabytes", type=float, default=8)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for name in args.only.split(","):
        BENCHES[name](args.work, args.gigabytes)


if __name__ == "__main__":
    main()
