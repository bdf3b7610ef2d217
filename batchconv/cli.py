"""The command line: arguments, progress, exit codes; nothing else prints."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import click

from batchconv.errors import BadModel, BatchconvError
from batchconv.interrupts import terminable
from batchconv.version import VERSION

if TYPE_CHECKING:
    from batchconv.convert import Record, Request

FORMATS = [
    *("fp32", "fp16", "bf16", "int8_sym", "int8_asym", "int4_sym", "int4_asym", "int3_sym", "int2_sym", "nf4", "fp4"),
    *("mxfp4", "nvfp4", "fp8_e4m3", "fp8_e5m2", "mxfp8_e4m3", "cb4"),
]
"""Names of `--precision` (repeated here so that `--help` imports no numpy; a test compares it with the formats)."""

BACKUPS = ["int8_asym", "int8_sym", "mxfp8_e4m3", "fp8_e4m3", "none"]
"""Names of `--backup`, repeated for the same reason."""

FRAMEWORKS = ("caffe", "onnx", "tensorflow", "mxnet", "kaldi")


def program() -> NoReturn:
    """The process has done what its command line says and ends with the exit code.

    At once if it has no other threads: to take an interpreter apart object by object takes 50 ms, for nobody.
    """
    try:
        main()
    except SystemExit as end:
        if threading.active_count() > 1 or not isinstance(end.code, int | None):
            raise
        with suppress(OSError, ValueError):  # nobody reads it, or nothing can be written there
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
            os._exit(end.code or 0)
    os._exit(1)


class Terminated(KeyboardInterrupt):
    """SIGTERM came: the exit code is another one than after Ctrl-C."""


class Group(click.Group):
    """Every error that batchconv raises on purpose becomes one line and exit code 1; never a traceback."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*args, **extra)
        except click.UsageError as error:
            misused(error)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            misused(error)
        except BatchconvError as error:
            fail(str(error))
        except MemoryError:
            fail("out of memory: give --threads 1, or run it on a cluster with `batchconv run`")
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except KeyboardInterrupt as stop:
            fail("interrupted; nothing half-written was left", 143 if isinstance(stop, Terminated) else 130)
        except BrokenPipeError:
            sys.exit(1)
        except Exception as error:
            if os.environ.get("BATCHCONV_DEBUG"):
                raise
            fail(f"internal error, please report it (BATCHCONV_DEBUG=1 shows where): {type(error).__name__}: {error}")


def misused(error: click.UsageError) -> NoReturn:
    """One line and exit code 2; or, where there are no arguments at all, the help."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        raise error
    command = error.ctx.command_path if error.ctx else "batchconv"
    fail(f"{' '.join(error.format_message().split())} (see {command} --help)", 2)


def fail(text: str, code: int = 1) -> NoReturn:
    """The process ends with `text` on standard error, each line marked as an error."""
    for line in text.splitlines():
        click.echo(f"batchconv: error: {line}", err=True)
    sys.exit(code)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(VERSION, prog_name="batchconv")
def main() -> None:
    """Convert trained networks to OpenVINO IR: one with `convert`, a zoo with `run`."""


def model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which model is read and how; shared by `convert` and `inspect`."""
    options = [
        click.option(
            "--framework", type=click.Choice(FRAMEWORKS), help="Framework; found out from the file if left out."
        ),
        click.option("--proto", metavar="FILE", help="Caffe: the .prototxt (default: beside the .caffemodel)."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@main.command()
@click.argument("model")
@click.option("--output", "-o", required=True, metavar="X.xml", help="Where the IR goes; X.bin and X.json beside it.")
@click.option(
    "--precision", type=click.Choice(FORMATS), default="fp16", show_default=True, help="Format of the weights."
)
@model_options
@click.option("--input", "inputs", multiple=True, metavar="NAME[1,3,?,8..16]",
              help="Shape, {type} or ->value of an input; an inner node cuts the graph there. Repeat.")  # fmt: skip
@click.option("--output-node", "outputs", multiple=True, metavar="NAME", help="Cut the graph at this output. Repeat.")
@click.option("--group-size", type=int, metavar="N", help="Elements that share a scale; -1: a whole channel.")
@click.option("--ratio", type=click.FloatRange(0, 1), default=1.0, show_default=True,
              help="Share of the weights in a 4-bit format; the most sensitive rest gets --backup.")  # fmt: skip
@click.option("--all-layers", is_flag=True, help="Embeddings and the last layer too in the 4-bit format.")
@click.option("--ignore", multiple=True, metavar="PATTERN", help="Layers left as they are (name pattern). Repeat.")
@click.option("--only", multiple=True, metavar="PATTERN", help="Compress these layers alone (name pattern). Repeat.")
@click.option("--backup", type=click.Choice(BACKUPS), help="Format of the layers kept at 8 bit.")
@click.option("--scale-search/--no-scale-search", default=None, help="Search each group's scale for the least error.")
@click.option("--threads", type=click.IntRange(1), help="Threads that read and write (default: the cores).")
@click.option("--name", help="Name of the network in the IR (default: the model's own).")
@click.option("--explain", is_flag=True, help="Say which rewrites did not apply, and why.")
@click.option("--report", is_flag=True, help="Print what became of every weight.")
def convert(
    model: str, output: str, precision: str, threads: int | None, explain: bool, report: bool, **rest: Any
) -> None:
    """Convert one MODEL in this process."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy starts no threads: none are needed, and we may fork
    from batchconv import convert as conversion

    request = request_of(model, output, precision, **rest)
    say = (lambda line: click.echo(line, err=True)) if explain else None
    with terminable(Terminated):
        record = conversion.convert(request, threads, say, True)
    for artifact in record.artifacts:
        click.echo(summary(record, artifact))
        if report:
            click.echo("\n".join(layer_table(artifact["layers"])))


def request_of(model: str, output: str, precision: str, inputs: Sequence[str], outputs: Sequence[str],
               framework: str | None, proto: str | None, name: str | None, **compression: Any) -> Request:  # fmt: skip
    """The request that the command line spells; BadModel if an option does not parse."""
    from batchconv.convert import Request, Variant
    from batchconv.inputs import parse_inputs
    from batchconv.quantize import Compression

    if not output.endswith(".xml"):
        raise BadModel(f"--output '{output}' must end in .xml")
    chosen = {key: value for key, value in compression.items() if value is not None}
    return Request(
        model=model,
        variants=(Variant(output, Compression(mode=precision, **chosen)),),
        framework=framework,
        files={"proto": proto} if proto else {},
        inputs=tuple(found for text in inputs for found in parse_inputs(text)),
        outputs=tuple(outputs),
        name=name or "",
    )


def summary(record: Record, artifact: dict[str, Any]) -> str:
    """`model.xml: 66 operations, fp16, 2.4 MB in 0.21 s`."""
    size = megabytes(artifact["bin"]["nbytes"])
    what = f"{artifact['operations']} operations, {artifact['precision']}, {size}"
    return f"{artifact['xml']['url']}: {what} in {record.seconds:.2f} s"


def megabytes(nbytes: float) -> str:
    """A size for people: `4.7 MB`."""
    return f"{nbytes / 1e6:,.1f} MB" if nbytes >= 1e5 else f"{nbytes / 1e3:,.1f} kB"


def layer_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A line a weight: format, bytes before and after, relative error, and why."""
    lines = [f"{'layer':40} {'format':11} {'group':>5} {'before':>10} {'after':>10} {'error':>9}  why"]
    for row in rows:
        error = "" if row.get("error") is None else f"{row['error']:.2e}"
        lines.append(
            f"{row['layer'][:40]:40} {row['format']:11} {row['group'] if row['group'] > 0 else '':>5} "
            f"{megabytes(row['before']):>10} {megabytes(row['after']):>10} {error:>9}  {row['reason']}"
        )
    return lines


@main.command()
@click.argument("manifest")
@click.option("--workers", type=click.IntRange(1), help="Workers of a cluster on this machine (default: the cores).")
@click.option("--scheduler", metavar="tcp://HOST:PORT", help="Address of a running Dask scheduler to use instead.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first model that fails.")
def run(manifest: str, workers: int | None, scheduler: str | None, fail_fast: bool) -> None:
    """Convert every model of MANIFEST (YAML or JSON) on a Dask cluster."""
    if workers and scheduler:
        raise click.UsageError("--workers and --scheduler exclude each other")
    from batchconv import engine

    sys.exit(engine.run_manifest(manifest, workers=workers, scheduler=scheduler, fail_fast=fail_fast))


@main.command()
@click.argument("manifest")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def plan(manifest: str, as_json: bool) -> None:
    """Say what `run` would do with MANIFEST; reads headers only."""
    from batchconv import engine

    text, code = engine.plan_manifest(manifest, as_json=as_json)
    click.echo(text)
    sys.exit(code)


@main.command()
@click.argument("model")
@model_options
def inspect(model: str, framework: str | None, proto: str | None) -> None:
    """Show a model's framework, inputs, outputs, operators, and what is not supported."""
    from batchconv import frontends
    from batchconv.frontends.translate import operators, unsupported
    from batchconv.shape import text

    read, registry = frontends.open_model(model, framework, {"proto": proto} if proto else {})
    click.echo(f"{read.file}: {read.framework}{f', {read.name}' if read.name else ''}")
    for entry in read.inputs:
        click.echo(f"input   {entry.name} {entry.dtype.ir if entry.dtype else '?'}{text(entry.shape)}")
    for name in read.outputs:
        click.echo(f"output  {name}")
    nbytes = sum(weight.stored.nbytes for weight in read.weights.values())
    click.echo(f"weights {len(read.weights)}, {megabytes(nbytes)}")
    click.echo("operators " + ", ".join(f"{name} {count}" for name, count in operators(read).items()))
    missing = unsupported(read, registry)
    for name, nodes in missing:
        click.echo(f"unsupported {name}: {', '.join(nodes)}")
    sys.exit(1 if missing else 0)


@main.command()
@click.option("--framework", type=click.Choice(FRAMEWORKS), help="One framework alone.")
def ops(framework: str | None) -> None:
    """List the operators that can be converted, from the registry of translators."""
    from batchconv import frontends

    for name in [framework] if framework else frontends.FRONTENDS:
        names = frontends.operators(name)
        click.echo(f"{name}: {len(names)} operators" if names else f"{name}: not supported yet")
        for operator in names:
            click.echo(f"  {operator}")


@main.command()
def schema() -> None:
    """Print the JSON Schema of manifests."""
    import json

    from batchconv import manifest

    click.echo(json.dumps(manifest.schema(), indent=2))
