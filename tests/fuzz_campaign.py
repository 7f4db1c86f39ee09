"""Runs the fuzzers of all parsers in turn, one process at a time, until each had its time.

    PYTHONPATH=. .venv/bin/python tests/fuzz_campaign.py FOLDER --minutes 20

It goes on where an earlier run stopped, whether that ended or was killed. FOLDER gets
corpus/<target> (inputs that reached new code), found/<target> (inputs that failed), log files in
logs/, and times.json: the seconds and executions so far. It needs atheris: see fuzz_parsers.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fuzz_parsers import readers
from fuzz_seeds import valid_files

FUZZER = Path(__file__).resolve().with_name("fuzz_parsers.py")
_EXECUTIONS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_DONE = re.compile(r"^Done \d+ runs in (\d+) second", re.MULTILINE)
_PATIENCE = 900  # seconds that a fuzzer may take to begin and to end, or wait for other work
# Images are larger and slow; for the others a shorter input finds more in the same time.
_LENGTHS = {"image": 16384, "stored_settings": 16384}


def run_slice(folder: Path, target: str, seconds: int) -> dict:
    """Fuzz a target for some seconds and return the seconds, executions and findings."""
    corpus, found = folder / "corpus" / target, folder / "found" / target
    logs = folder / "logs"
    for place in (corpus, found, logs):
        place.mkdir(parents=True, exist_ok=True)
    log = logs / f"{target}-{int(time.time())}.log"
    options = [
        f"-max_total_time={seconds}", "-print_final_stats=1", "-timeout=600", "-rss_limit_mb=4096",
        f"-max_len={_LENGTHS.get(target, 4096)}", f"-artifact_prefix={found}/",
    ]  # fmt: skip
    begin, failed = time.monotonic(), True
    command = [sys.executable, str(FUZZER), target, str(corpus), *options]
    # Each input becomes a file: in memory this is faster.
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with open(log, "wb") as file, tempfile.TemporaryDirectory(dir=memory) as temporary:
        environment = {**os.environ, "TMPDIR": temporary}
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = subprocess.run(
                command, stdout=file, stderr=file, env=environment, timeout=seconds + _PATIENCE
            ).returncode
            failed = status != 0
    text = log.read_text(errors="replace")
    executions, done = _EXECUTIONS.findall(text), _DONE.search(text)
    if done:  # a process with this many libraries may fail when it ends
        failed = False
    return {
        "seconds": int(done.group(1)) if done else time.monotonic() - begin,
        "executions": int(executions[-1]) if executions else 0,
        "failures": int(failed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=20.0, help="of each target")
    parser.add_argument("--slice", type=int, default=200, help="seconds of a target at a time")
    parser.add_argument("--targets", nargs="*", default=list(readers()))
    options = parser.parse_args()
    add_seeds(options.folder)
    path = options.folder / "times.json"
    times = json.loads(path.read_text()) if path.exists() else {}
    for target in options.targets:
        times.setdefault(target, {"seconds": 0.0, "executions": 0, "failures": 0})
    while True:
        # The target that had least comes next, so that all get the same if time runs out.
        target = min(options.targets, key=lambda name: times[name]["seconds"])
        remaining = options.minutes * 60 - times[target]["seconds"]
        if remaining <= 0:
            break
        result = run_slice(options.folder, target, int(min(options.slice, remaining + 1)))
        for name, value in result.items():
            times[target][name] += value
        path.write_text(json.dumps(times, indent=1))
        print(target, times[target], flush=True)


def add_seeds(folder: Path) -> None:
    """Put valid files, and those of tests/fuzz_corpus, into the corpora."""
    for target, contents in valid_files().items():
        corpus = folder / "corpus" / target
        corpus.mkdir(parents=True, exist_ok=True)
        kept = FUZZER.with_name("fuzz_corpus") / target
        contents += [path.read_bytes() for path in sorted(kept.glob("*"))]
        for number, content in enumerate(contents):
            (corpus / f"valid-{number}").write_bytes(content)


if __name__ == "__main__":
    main()
