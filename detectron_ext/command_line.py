"""The part of the command line that all tools share: one-line errors, overrides, start-up.

Importing this module needs only the standard library, because some tools run without Caffe2.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import sys
import textwrap
from typing import TYPE_CHECKING, Callable, NamedTuple, Sequence

from detectron_ext.engine.startup import set_threads, start_caffe2, start_logging
from detectron_ext.errors import Interrupted, UserError
from detectron_ext.memory_limit import is_out_of_memory
from detectron_ext.shipped_files import tool_command
from detectron_ext.standard_output import (
    discard_output,
    open_missing_streams,
    print_any_text,
    survive_lost_errors,
)

if TYPE_CHECKING:
    from detectron_ext.config import Config

_WIDTH = 80  # of the text above the options in a help, in characters


class _Parser(argparse.ArgumentParser):
    """A parser that takes flags before and after KEY VALUE pairs, and prints errors as one line."""

    def __init__(self, **options):
        super().__init__(**options)
        # Text that matches is a value, not a flag. The pattern of argparse does not match -1e-3.
        self._negative_number_matcher = re.compile(r"-\.?\d")

    def parse_args(self, args=None, namespace=None):
        given = sys.argv[1:] if args is None else args
        return self.parse_intermixed_args(list(map(_with_home, given)), namespace)

    def error(self, message: str):
        print(f"error: {message}; see {self.prog} --help", file=sys.stderr)
        sys.exit(2)


def _with_home(argument: str) -> str:
    """Return an argument with the home folder for ~ in --flag=~/x, which a shell leaves alone."""
    flag, equals, value = argument.partition("=")
    is_flag = flag.startswith("--") and value.startswith("~")
    return flag + equals + os.path.expanduser(value) if is_flag else argument


def make_parser(description: str, example: str) -> argparse.ArgumentParser:
    """Return a parser whose help ends with an example and whose errors are one line.

    Args:
        description: what the tool does.
        example: command lines that begin with ``tools/``. The help shows them as a person types
            them in a checkout, or after installing the wheel.
    """
    commands = re.sub(r"^tools/(\w+)\.py", _as_typed, example.strip(), flags=re.MULTILINE)
    return _Parser(
        description=textwrap.fill(description, _WIDTH),
        epilog="example:\n  " + commands.replace("\n", "\n  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _as_typed(program: re.Match) -> str:
    return tool_command(program.group(1))


def add_config_file(
    parser: argparse.ArgumentParser,
    required: bool = True,
    description: str = "YAML configuration file",
) -> None:
    """Add --cfg, whose value is ``cfg_file``."""
    parser.add_argument(
        "--cfg", dest="cfg_file", metavar="FILE", required=required, help=description
    )


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --cfg and KEY VALUE pairs, as in Detectron's tools."""
    add_config_file(parser)
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add KEY VALUE pairs. A tool must add its own positional arguments first."""
    parser.add_argument(
        "opts",
        nargs="*",
        default=[],
        metavar="KEY VALUE",
        help="configuration keys and their values, for example SOLVER.MAX_ITER 2000",
    )


def is_key(text: str) -> bool:
    """Return whether an argument is a configuration key and not a file or folder.

    A misspelt key counts, too, if its section exists.
    """
    from detectron_ext.config.keys import ROOT

    return text.partition(".")[0] in ROOT.entries and not os.path.exists(text)


class Processes(NamedTuple):
    """Which of several processes of a run this one is.

    Attributes:
        total: number of processes.
        number: number of this process, from 0.
        rendezvous: the folder that all processes share; "" for one process.
        interface: network interface that connects them; "" chooses it.
    """

    total: int = 1
    number: int = 0
    rendezvous: str = ""
    interface: str = ""


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a run of several processes, which `chosen_processes` reads."""
    parser.add_argument(
        "--num-shards",
        type=int,
        metavar="N",
        help="number of processes that train together, on one machine or several",
    )
    parser.add_argument(
        "--shard-id", type=int, metavar="I", help="number of this process, from 0 to N - 1"
    )
    parser.add_argument(
        "--rendezvous",
        metavar="FOLDER",
        help="an empty folder that all processes share, a new one for each start",
    )
    parser.add_argument(
        "--interface",
        default="",
        metavar="NAME",
        help="network interface to the other machines, such as eth0 (default: that of the "
        "machine's name)",
    )


def chosen_processes(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Processes:
    """Return the checked flags of `add_processes`; a mistake ends the tool in one line.

    In processes other than the first, each line of the log tells the process.
    """
    count, number = arguments.num_shards, arguments.shard_id
    given = [number is not None, arguments.rendezvous is not None, bool(arguments.interface)]
    if count is None and not any(given):
        return Processes()
    if count is None or not all(given[:2]):
        parser.error("--num-shards, --shard-id and --rendezvous need each other")
    if count < 1:
        parser.error(f"--num-shards {count} must be at least 1")
    if not 0 <= number < count:
        parser.error(f"--shard-id {number} must be from 0 to {count - 1} with --num-shards {count}")
    interfaces = [name for _, name in socket.if_nameindex()]
    if arguments.interface and arguments.interface not in interfaces:
        parser.error(
            f"--interface {arguments.interface} is not one of this machine: {', '.join(interfaces)}"
        )
    if getattr(arguments, "upstream", None):
        parser.error("--num-shards does not go with --upstream")
    if number:
        start_logging(number)
    return Processes(count, number, arguments.rendezvous, arguments.interface)


def add_upstream(parser: argparse.ArgumentParser) -> None:
    """Add --upstream, which `runs_upstream` reads."""
    parser.add_argument(
        "--upstream",
        metavar="CHECKOUT",
        help="run the tool of the same name and flags in this checkout of Detectron, with this "
        "package's operators and LIBRA keys; without a GPU it runs on the CPU",
    )


def runs_upstream(arguments: argparse.Namespace, tool: str) -> bool:
    """Run Detectron's own tool if --upstream is given. Return whether it is given."""
    if not arguments.upstream:
        return False
    from detectron_ext.upstream.scripts import run_tool

    run_tool(arguments.upstream, tool, sys.argv[1:])
    return True


def load_config(path: str | None, overrides: Sequence = ()) -> Config:
    """Load a configuration and start Caffe2 with its number of threads.

    Args:
        path: YAML file; None loads the defaults.
        overrides: KEY VALUE pairs.

    Raises:
        ConfigError: the configuration is wrong.
    """
    from detectron_ext import config as configuration

    config = configuration.load(path, overrides)
    start(config.LIBRA.THREADS)
    return config


def start(threads: int) -> None:
    """Start Caffe2 with this many threads; 0 is one per processor. Call before importing Caffe2."""
    set_threads(threads)
    start_caffe2()


def run(main: Callable[[], object]) -> None:
    """Run a tool's main function and turn errors into messages and exit statuses.

    If the function returns a number, that is the exit status.

    - UserError: its message as one line; status 2.
    - MemoryError, also from Caffe2 or OpenCV: one line; 2.
    - Ctrl-C: "interrupted", and where the state was saved; 130.
    - The reader of standard output has closed it, as in ``tool | head -1``: no message; 141.
    - Standard output cannot be written, as on a full disk: one line; 2.

    Training does not end when its output is lost; see `engine.statistics`. No tool ends because
    standard error is closed.
    """
    open_missing_streams()
    survive_lost_errors()
    start_logging()
    print_any_text()
    try:
        _run(main)
    except OSError:
        _end_without_output("\n")  # fails again if standard output caused the error
        raise
    finally:
        _end_without_output()  # finds an error here, before Python exits


def _end_without_output(text: str = "") -> None:
    """Print text and flush standard output; end the tool if that fails."""
    try:
        print(end=text, flush=True)
    except OSError as error:
        discard_output()
        if isinstance(error, BrokenPipeError):
            sys.exit(128 + signal.SIGPIPE)
        reason = error.strerror or error
        print(f"error: cannot write to standard output: {reason}; redirect it", file=sys.stderr)
        sys.exit(2)


def _run(main: Callable[[], object]) -> None:
    try:
        status = main()
    except Interrupted as stop:
        print(" ".join(str(stop).splitlines()), file=sys.stderr)
        sys.exit(130)
    except UserError as error:
        # A path may contain line breaks, but the message must be one line.
        print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
        sys.exit(2)
    except MemoryError as error:
        reason = " ".join(str(error).splitlines()) or "the system gives no more"
        print(f"error: out of memory: {reason}; use smaller or fewer images", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        message = "error: out of memory: the system gives no more; use smaller or fewer images"
        print(message, file=sys.stderr)
        sys.exit(2)
    if isinstance(status, int) and status:
        sys.exit(status)
