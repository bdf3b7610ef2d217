"""batchconv against cp, ovc and nncf on the same model in the same run, whole processes, interleaved.

    python tests/bench/bench_convert.py [--work /tmp/bench] [--rounds 3] [--only copy,light]

Needs openvino and nncf. Prints medians, peak resident memory of each process, and ratios.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from measure import big, interleaved, show, warm

BIN = Path(sys.executable).parent
SYNC = "import os,shutil,sys; shutil.copyfile(*sys.argv[1:]); f=os.open(sys.argv[2],os.O_RDWR); os.fsync(f)"
NNCF = """
import sys, nncf, openvino as ov
mode, source, target = sys.argv[1:]
model = ov.Core().read_model(source)
options = {"group_size": 128} if "INT4" in mode else {}
model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode[mode], **options)
ov.save_model(model, target, compress_to_fp16=False)
"""


def ours(source: Path, out: Path, precision: str) -> list[str]:
    return [str(BIN / "batchconv"), "convert", str(source), "--output", str(out / "ours.xml"), "--precision", precision]


def ovc(source: Path, out: Path, half: bool) -> list[str]:
    return [str(BIN / "ovc"), str(source), "--output_model", str(out / "ovc.xml"), f"--compress_to_fp16={half}"]


def copy(source: Path, out: Path) -> list[str]:
    return [sys.executable, "-S", "-c", SYNC, str(source), str(out / "copy")]


def nncf(mode: str, source: Path, out: Path) -> list[str]:
    return [sys.executable, "-c", NNCF, mode, str(source), str(out / "nncf.xml")]


def light() -> Path:
    """light_squeezenet.onnx inside the onnx wheel."""
    import importlib.util

    spec = importlib.util.find_spec("onnx")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "backend/test/data/light/light_squeezenet.onnx"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("/tmp/batchconv-bench"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="light,copy,fp16,int8,int4")
    parser.add_argument("--size", type=int, default=3072)
    args = parser.parse_args()
    out = args.work / "out"
    out.mkdir(parents=True, exist_ok=True)
    inline, external = models(args.work, args.size)

    def clean() -> None:
        shutil.rmtree(out)
        out.mkdir()
        for source in (inline, Path(f"{external}.data"), args.work / "peer" / "source.bin"):
            if source.exists():
                warm(source)

    for name in args.only.split(","):
        BENCHES[name](inline, external, out, args.rounds, clean)


def models(work: Path, size: int) -> tuple[Path, Path]:
    """The 28-matrix model, inline and with external data, made once."""
    inline = big(work / f"big{size}.onnx", "--size", str(size))
    external = big(work / f"bigx{size}.onnx", "--size", str(size), "--external")
    return inline, external


def bench_copy(inline: Path, external: Path, out: Path, rounds: int, clean: Callable[[], None]) -> None:
    commands = {
        "cp + fsync": copy(inline, out),
        "batchconv fp32": ours(inline, out, "fp32"),
        "batchconv fp32 external": ours(external, out, "fp32"),
        "ovc fp32": ovc(inline, out, False),
        "ovc fp32 external": ovc(external, out, False),
    }
    show("fp32", interleaved(commands, rounds, clean), "cp + fsync")


def bench_fp16(inline: Path, external: Path, out: Path, rounds: int, clean: Callable[[], None]) -> None:
    commands = {
        "cp + fsync": copy(inline, out),
        "batchconv fp16": ours(inline, out, "fp16"),
        "batchconv fp16 external": ours(external, out, "fp16"),
        "ovc fp16": ovc(inline, out, True),
        "ovc fp16 external": ovc(external, out, True),
    }
    show("fp16", interleaved(commands, rounds, clean), "ovc fp16")


def bench_quantised(mode: str, inline: Path, out: Path, rounds: int, clean: Callable[[], None]) -> None:
    from measure import once

    source = out.parent / "peer" / "source.xml"
    if not source.exists():
        source.parent.mkdir(exist_ok=True)
        once([str(BIN / "ovc"), str(inline), "--output_model", str(source), "--compress_to_fp16=False"])
    commands = {f"nncf {mode}": nncf(mode.upper(), source, out), f"batchconv {mode}": ours(inline, out, mode)}
    if mode == "int4_sym":
        commands["batchconv int4_sym, no search"] = [*ours(inline, out, mode), "--no-scale-search"]
    show(mode, interleaved(commands, rounds, clean), f"nncf {mode}")


def bench_light(inline: Path, external: Path, out: Path, rounds: int, clean: Callable[[], None]) -> None:
    commands = {"ovc": ovc(light(), out, True), "batchconv": ours(light(), out, "fp16")}
    show("light_squeezenet.onnx", interleaved(commands, max(rounds, 7), clean), "ovc")


BENCHES: dict[str, Callable[[Path, Path, Path, int, Callable[[], None]], None]] = {
    "light": bench_light,
    "copy": bench_copy,
    "fp16": bench_fp16,
    "int8": lambda inline, _, out, rounds, clean: bench_quantised("int8_asym", inline, out, rounds, clean),
    "int4": lambda inline, _, out, rounds, clean: bench_quantised("int4_sym", inline, out, rounds, clean),
}

if __name__ == "__main__":
    main()
