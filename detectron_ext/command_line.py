"""What every tool's command line shares: errors as one line, overrides, start-up.

Importing it needs the standard library alone: not every tool runs where Caffe2 is.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys

from detectron_ext.engine.startup import set_threads, start_caffe2, start_logging
from detectron_ext.errors import UserError
from detectron_ext.shipped_files import tool_command
from detectron_ext.standard_output import discard_output, print_any_text


class _Parser(argparse.ArgumentParser):
    """Takes flags before and after the KEY VALUE pairs, and reports a mistake as one line."""

    def __init__(self, **options):
        super().__init__(**options)
        # What is a value and no flag; argparse's own pattern leaves out -1e-3.
        self._negative_number_matcher = re.compile(r"-\.?\d")

    def parse_args(self, args=None, namespace=None):
        return self.parse_intermixed_args(args, namespace)

    def error(self, message: str):
        print(f"error: {message}; {self.prog} --help says more", file=sys.stderr)
        sys.exit(2)


def make_parser(description: str, example: str) -> argparse.ArgumentParser:
    """A parser whose help ends with an example and whose errors are one line.

    Args:
        description: what the tool does.
        example: command lines, each from ``tools/`` on; shown as they are typed in a checkout or
            after the wheel was installed.
    """
    commands = re.sub(r"^tools/(\w+)\.py", _as_typed, example.strip(), flags=re.MULTILINE)
    return _Parser(
        description=description,
        epilog="example:\n  " + commands.replace("\n", "\n  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _as_typed(program: re.Match) -> str:
    return tool_command(program.group(1))


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --cfg and KEY VALUE pairs, as Detectron's tools have them."""
    parser.add_argument("--cfg", dest="cfg_file", required=True, help="YAML configuration file")
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add KEY VALUE pairs; positional arguments of the tool's own have to be added before."""
    parser.add_argument(
        "opts",
        nargs="*",
        default=[],
        metavar="KEY VALUE",
        help="configuration overrides, e.g. SOLVER.MAX_ITER 2000",
    )


def add_upstream(parser: argparse.ArgumentParser) -> None:
    """Add --upstream, for `runs_upstream` to act on."""
    parser.add_argument(
        "--upstream",
        metavar="CHECKOUT",
        help="run the tool of this name of a checkout of Detectron, which takes the same flags, "
        "with the LIBRA node in its configuration, on the CPU where there is no GPU",
    )


def runs_upstream(arguments: argparse.Namespace, tool: str) -> bool:
    """Run upstream's tool with this command line if --upstream asks for it; whether it did."""
    if not arguments.upstream:
        return False
    from detectron_ext.upstream.scripts import run_tool

    run_tool(arguments.upstream, tool, sys.argv[1:])
    return True


def load_config(path: str | None, overrides=()):
    """Load the configuration, the defaults where there is no file, and start Caffe2 as it asks."""
    from detectron_ext import config as configuration

    config = configuration.load(path, overrides)
    start(config.LIBRA.THREADS)
    return config


def start(threads: int) -> None:
    """Start Caffe2 with a number of threads, 0 for one a processor; before it is imported."""
    set_threads(threads)
    start_caffe2()


def run(main) -> None:
    """Run a tool: a person's mistake ends as one line and exit status 2, Ctrl-C as 130.

    Where nobody reads its output any more, as behind ``| head -1``, it ends quietly, as 141; where
    that cannot be written, as on a full disk, with one line and 2. Training goes on without it.
    """
    start_logging()
    print_any_text()
    try:
        _run(main)
    except OSError:
        _end_without_output("\n")  # if that was at fault, it fails again, unbuffered too
        raise
    finally:
        _end_without_output()  # what cannot be written is found now, not as Python ends


def _end_without_output(text: str = "") -> None:
    """Print text and what is left in the buffer; where that cannot be, end the tool."""
    try:
        print(end=text, flush=True)
    except OSError as error:
        discard_output()
        if isinstance(error, BrokenPipeError):
            sys.exit(128 + signal.SIGPIPE)
        reason = error.strerror or error
        print(f"error: cannot write to standard output: {reason}; redirect it", file=sys.stderr)
        sys.exit(2)


def _run(main) -> None:
    try:
        main()
    except UserError as error:
        # Paths may hold anything, and the message is one line.
        print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
