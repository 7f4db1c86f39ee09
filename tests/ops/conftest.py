"""Says with which random inputs the operators' tests failed."""

from __future__ import annotations

from random_seed import SEED, SEED_VARIABLE


def pytest_terminal_summary(terminalreporter):
    failed = terminalreporter.stats.get("failed", [])
    if any("tests/ops/" in report.nodeid for report in failed):
        terminalreporter.line(f"{SEED_VARIABLE}={SEED} repeats the random inputs of tests/ops")
