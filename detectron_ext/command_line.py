"""What every tool's command line shares: errors as one line, overrides, start-up."""

from __future__ import annotations

import argparse
import sys

from detectron_ext import config as configuration
from detectron_ext.engine.startup import set_threads, start_caffe2, start_logging
from detectron_ext.errors import UserError


def make_parser(description: str, example: str) -> argparse.ArgumentParser:
    """A parser whose help ends with an example."""
    return argparse.ArgumentParser(
        description=description,
        epilog="example:\n  " + example.strip().replace("\n", "\n  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --cfg and the trailing KEY VALUE pairs, as Detectron's tools have them."""
    parser.add_argument("--cfg", dest="cfg_file", required=True, help="YAML configuration file")
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="configuration overrides, e.g. SOLVER.MAX_ITER 2000; they come last",
    )


def load_config(path: str, overrides=()):
    """Load the configuration and start Caffe2 as it asks."""
    config = configuration.load(path, overrides)
    set_threads(config.LIBRA.THREADS)
    start_caffe2()
    return config


def run(main) -> None:
    """Run a tool: a person's mistake ends as one line and exit status 2, Ctrl-C as 130."""
    start_logging()
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
