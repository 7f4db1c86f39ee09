from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from squares import REPOSITORY
from tool_runner import failure, run_tool

from detectron_ext import command_line
from detectron_ext.engine import startup
from detectron_ext.errors import Interrupted

TOOLS = ("train_net", "test_net", "infer_simple", "visualize_results", "demo", "reval")


@pytest.mark.parametrize("name", TOOLS)
def test_help_says_what_the_tool_does_with_an_example(name):
    outcome = run_tool(name, "--help")
    assert outcome.status == 0
    description, example = outcome.out.split("example:")
    assert len(description.split()) > 40
    assert example.split()[:2] == [".venv/bin/python", f"tools/{name}.py"]


@pytest.mark.parametrize(
    "name, default",
    [
        ("test_net", "(default: False; in Detectron: True)"),
        ("infer_simple", "output/infer; in Detectron: /tmp/infer_simple"),
        ("infer_simple", "all images; in Detectron: jpg"),
        ("infer_simple", "png; in Detectron: pdf"),
    ],
)
def test_help_says_which_defaults_are_not_detectrons(name, default):
    assert default in " ".join(run_tool(name, "--help").out.split())


def test_a_tool_runs_as_a_separate_process(workplace, tmp_path):
    def run(*arguments):
        command = [sys.executable, "tools/train_net.py", "--cfg", str(workplace.cfg), *arguments]
        return subprocess.run(
            command, cwd=str(REPOSITORY), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    done = run("SOLVER.MAX_ITER", "1", "OUTPUT_DIR", str(tmp_path), "LIBRA.THREADS", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"json_stats: {") == 1
    assert (tmp_path / "test" / "squares" / "retinanet" / "results.json").exists()

    wrong = run("SOLVER.MAX_ITR", "1")
    assert wrong.returncode == 2
    assert wrong.stdout == b""
    (line,) = wrong.stderr.decode().splitlines()
    assert line.startswith("error: unknown key SOLVER.MAX_ITR") and "SOLVER.MAX_ITER" in line


@pytest.mark.parametrize(
    "arguments, fault",
    [
        ((), "required: --cfg"),
        (("--cfg",), "--cfg: expected one argument"),
        (("--cfg", "x.yaml", "--skip-tests"), "unrecognized arguments: --skip-tests"),
    ],
)
def test_a_wrong_flag_is_one_line_that_points_to_help(arguments, fault):
    message = failure(run_tool("train_net", *arguments))
    assert fault in message and "train_net.py --help" in message


@pytest.mark.parametrize("name", ["build_ops", "build_dist", "format_ops", "document_config"])
def test_a_wrong_flag_of_a_tool_for_the_checkout_is_one_line(name):
    message = failure(run_tool(name, "--no-such-flag"))
    assert message == f"unrecognized arguments: --no-such-flag; see {name}.py --help"


@pytest.mark.parametrize("name", ["test_net", "infer_simple", "visualize_results"])
def test_a_missing_required_flag_is_named(name):
    image = ["image.png"] if name == "infer_simple" else []
    assert "required: --" in failure(run_tool(name, *image))


_MAINS = {
    "of one line": "lambda: print('state')",
    "of more than fits a buffer": "lambda: [print('state') for _ in range(10**5)]",
    "of a help": "lambda: make_parser('Draw.', 'tools/draw.py').parse_args(['--help'])",
}


_PRINTING = pytest.mark.parametrize("main", _MAINS.values(), ids=_MAINS)
_BUFFERING = pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])


def _run_main(main, stdout, **environment):
    code = f"from detectron_ext.command_line import make_parser, run; run({main})"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, **environment}
    return subprocess.run(
        command, cwd=str(REPOSITORY), env=environment, stdout=stdout, stderr=subprocess.PIPE
    )


@contextlib.contextmanager
def _closed_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


@_PRINTING
@_BUFFERING
def test_a_tool_ends_quietly_if_nobody_reads_its_output(main, unbuffered):
    with _closed_pipe() as pipe:
        outcome = _run_main(main, pipe, PYTHONUNBUFFERED=unbuffered)
    assert (outcome.returncode, outcome.stderr) == (128 + signal.SIGPIPE, b"")


_PROGRAMS = {
    "the command": ["-m", "detectron_ext", "--help"],
    "a tool by its name": ["-m", "detectron_ext", "sweep", "--help"],
    "the digits": ["-m", "detectron_ext.data.digits", "--help"],
    **{
        path.stem: [str(path), "--help"]
        for path in sorted((REPOSITORY / "tools").glob("*.py"))
        if path.stem in ("build_ops", "build_dist", "format_ops", "document_config", "demo")
    },
}


@pytest.mark.parametrize("program", _PROGRAMS.values(), ids=_PROGRAMS)
def test_a_help_that_nobody_reads_ends_every_program_quietly(program):
    with _closed_pipe() as pipe:
        outcome = subprocess.run(
            [sys.executable, *program], cwd=str(REPOSITORY), stdout=pipe, stderr=subprocess.PIPE
        )
    assert (outcome.returncode, outcome.stderr) == (128 + signal.SIGPIPE, b"")


def test_every_tool_runs_under_the_common_handler():
    for path in (REPOSITORY / "tools").glob("*.py"):
        last = path.read_text().rstrip().splitlines()[-1].strip()
        assert last in ("command_line.run(main)", "run(main)"), path.name


def test_a_lack_of_memory_is_one_line():
    code = "lambda: __import__('numpy').zeros(10**15)"
    outcome = _run_main(code, subprocess.PIPE)
    assert outcome.returncode == 2
    (line,) = outcome.stderr.decode().splitlines()
    assert line.startswith("error: out of memory: Unable to allocate ")
    assert line.endswith("; use smaller or fewer images")


def test_operators_that_do_not_exist_are_named():
    command = [sys.executable, "-c", "import sys\nfrom detectron_ext import command_line\n"
               "command_line.run(lambda: __import__('detectron_ext.ops'))"]  # fmt: skip
    environment = {**os.environ, "DETECTRON_EXT_OPS": "pyton"}
    done = subprocess.run(command, cwd=str(REPOSITORY), env=environment, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.decode().splitlines()[-1] == (
        "error: DETECTRON_EXT_OPS must be python or must not be set, given 'pyton' (str)"
    )


@pytest.mark.parametrize("status", [0, 3])
def test_what_the_main_function_returns_is_the_exit_status(status):
    assert _run_main(f"lambda: {status}", subprocess.PIPE).returncode == status


@_PRINTING
@_BUFFERING
def test_an_output_on_a_full_disk_is_named(main, unbuffered):
    with open("/dev/full", "w") as full:
        outcome = _run_main(main, full, PYTHONUNBUFFERED=unbuffered)
    assert outcome.returncode == 2
    (line,) = outcome.stderr.decode().splitlines()
    assert line.startswith("error: cannot write to standard output: No space left on device; ")


def test_a_character_outside_the_output_encoding_becomes_a_question_mark():
    outcome = _run_main(
        r"lambda: print('0.1 \u2013 0.2')", subprocess.PIPE, PYTHONIOENCODING="latin-1"
    )
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, b"0.1 ? 0.2\n", b"")


def test_training_continues_after_its_output_is_closed(workplace, tmp_path):
    command = [
        sys.executable, "tools/train_net.py", "--cfg", str(workplace.cfg), "--skip-test",
        "SOLVER.MAX_ITER", "2", "LIBRA.LOG_PERIOD", "1", "OUTPUT_DIR", str(tmp_path),
    ]  # fmt: skip
    with _closed_pipe() as pipe:
        done = subprocess.run(command, cwd=str(REPOSITORY), stdout=pipe, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(b"cannot write to standard output (Broken pipe)") == 1
    folder = tmp_path / "train" / "squares" / "retinanet"
    assert len((folder / "stats.jsonl").read_text().splitlines()) == 2
    assert (folder / "model_final.pkl").exists()


def test_a_tool_needs_no_standard_output():
    code = "from detectron_ext.command_line import run; run(lambda: print('state'))"
    command = ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, code]
    outcome = subprocess.run(command, cwd=str(REPOSITORY), stderr=subprocess.PIPE)
    assert (outcome.returncode, outcome.stderr) == (0, b"")


_SAYING = (
    "from detectron_ext.command_line import run; import logging, sys\n"
    "def main():\n"
    "    for _ in range(3): logging.getLogger('detectron_ext').warning('said')\n"
    "    print('said', file=sys.stderr, flush=True)\n"
    "    assert open('/dev/null').fileno() > 2\n"
    "    print('done')\n"
    "run(main)"
)


def test_a_tool_needs_no_standard_error():
    command = ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, _SAYING]
    outcome = subprocess.run(command, cwd=str(REPOSITORY), stdout=subprocess.PIPE)
    assert (outcome.returncode, outcome.stdout) == (0, b"done\n")


def test_a_tool_goes_on_after_its_standard_error_is_closed():
    with _closed_pipe() as pipe:
        outcome = subprocess.run(
            [sys.executable, "-c", _SAYING],
            cwd=str(REPOSITORY),
            stdout=subprocess.PIPE,
            stderr=pipe,
        )
    assert (outcome.returncode, outcome.stdout) == (0, b"done\n")


def test_an_error_without_standard_error_keeps_its_status():
    fault = "from detectron_ext.errors import UserError; raise UserError('fault')"
    code = _SAYING.replace("print('done')", fault)
    with _closed_pipe() as pipe:
        outcome = subprocess.run([sys.executable, "-c", code], cwd=str(REPOSITORY), stderr=pipe)
    assert outcome.returncode == 2


def test_flags_may_follow_the_overrides(workplace, tmp_path):
    outcome = run_tool(
        "train_net", "SOLVER.MAX_ITER", 1, "--cfg", workplace.cfg, "OUTPUT_DIR", tmp_path,
        "--skip-test",
    )  # fmt: skip
    assert outcome.status == 0
    assert not (tmp_path / "test").exists()


@pytest.mark.parametrize(
    "value, shown", [("-1", "-1 (int)"), ("-.5", "-0.5 (float)"), ("-1e-3", "-0.001 (float)")]
)
@pytest.mark.parametrize("name", ["train_net", "test_net", "infer_simple"])
def test_a_value_may_be_negative(tool, workplace, name, value, shown):
    image = ("--wts", workplace.weights, "image.png") if name == "infer_simple" else ()
    key = "SOLVER.WARM_UP_ITERS" if value == "-1" else "SOLVER.BASE_LR"
    assert f"{key} must be at least 0, given {shown}" in failure(tool(name, *image, key, value))


def test_negative_overrides_take_effect(tool, workplace, tmp_path):
    outcome = tool(
        "infer_simple", "--wts", workplace.weights, "--output-dir", tmp_path,
        workplace.images / "1.png", "TRAIN.RPN_STRADDLE_THRESH", "-1",
    )  # fmt: skip
    assert outcome.status == 0


def test_an_override_without_a_partner_is_named(tool):
    assert "'SOLVER.MAX_ITER' (str) has no partner" in failure(tool("train_net", "SOLVER.MAX_ITER"))


@pytest.mark.parametrize("asked, given", [("3", "3"), ("0", "7")])
def test_the_configurations_threads_are_set_before_caffe2_starts(monkeypatch, asked, given):
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    for name in (*names, "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "7")
    seen = []

    def look():
        seen.extend(os.environ[name] for name in names)

    monkeypatch.setattr(command_line, "start_caffe2", look)
    command_line.load_config(None, ["LIBRA.THREADS", asked])
    assert seen == [given, given]


@pytest.mark.parametrize("value, given", [("3,2", 3), (" 5 ", 5), ("", 6), ("0", 6), ("\u00b2", 6)])
def test_threads_come_from_the_environment_or_are_one_for_each_processor(monkeypatch, value, given):
    for name in ("MKL_NUM_THREADS", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)))
    startup.set_threads(0)
    assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == str(given)


def test_a_run_that_was_stopped_and_saved_is_no_error(capsys):
    def stopped():
        raise Interrupted("interrupted: saved model_iter3.pkl")

    # Not `run`: it sets up logging for the whole process, and other tests read the log.
    with pytest.raises(SystemExit) as end:
        command_line._run(stopped)
    assert end.value.code == 130
    assert capsys.readouterr().err == "interrupted: saved model_iter3.pkl\n"
