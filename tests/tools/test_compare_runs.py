"""tools/compare_runs.py."""

from __future__ import annotations

import pytest
from tool_runner import failure, run_tool


@pytest.mark.parametrize("source", ["--annotations", "--cfg"])
@pytest.mark.parametrize("names", [("--names", "one", "same"), ()])
def test_a_run_is_no_better_than_itself(workplace, tmp_path, source, names):
    output = workplace.folder / "output"
    annotations = workplace.folder / "squares" / "annotations.json"
    given = (source, workplace.cfg if source == "--cfg" else annotations)
    outcome = run_tool(
        "compare_runs", "--baseline", output, "--candidate", output, "--resamples", 20,
        *given, "--output-dir", tmp_path, *names,
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    one, same = names[1:] or (output, f"{output} (2)")
    assert f"| Metric (runs) | {one} (1) | {same} (1) |" in outcome.out
    rows = [line for line in outcome.out.splitlines() if line.startswith("| **AP** |")]
    assert rows[0].endswith(" | +0.000 to +0.000 | – | – | – |") or "| – |" in rows[0]
    assert {path.name for path in tmp_path.iterdir()} == {
        f"comparison.{kind}" for kind in ("json", "csv", "md", "html")
    }


def test_mistakes_give_one_line_errors(workplace, tmp_path):
    output = workplace.folder / "output"
    for arguments, message in (
        (("--candidate", tmp_path / "none"), "no such run folder"),
        (("--candidate", tmp_path), "has no finished test"),
        (("--candidate", output, "--names", "a", "a"), "two runs are called"),
        (("--candidate", output, "--names", "one", "same"), "name that configuration with --cfg"),
        (("--candidate", output, "--names", "one"), "--names needs 2 names"),
        (("--candidate", output, "--resamples", 0), "--resamples must be at least 1"),
        (
            ("--candidate", output, "--names", "a", "b", "--primary", "ap"),
            "--primary must be one of",
        ),
        (
            ("--candidate", output, tmp_path, "--names", "a", "b", "--paired"),
            "--paired needs as many runs on every side, given 1, 2",
        ),
        (("--candidate", output, "--threshold", 50), "--threshold must be a score"),
        (("--candidate", output, "--threshold", "nan"), "--threshold must be a score"),
        (("--candidate", output, output, "--names", "a", "b"), "is given twice"),
        (
            ("--candidate", output, "--names", "a", "b", "--annotations", tmp_path),
            "cannot read annotation file",
        ),
    ):
        outcome = run_tool("compare_runs", "--baseline", output, *arguments)
        assert message in failure(outcome)
