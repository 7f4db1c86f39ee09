"""Running a sweep."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from squares import write_tiny_config
from tested_run import write_test

from detectron_ext.commands.sweep import report, sweep
from detectron_ext.errors import UserError
from detectron_ext.experiments.results import collect_results
from detectron_ext.experiments.spec import read_spec
from detectron_ext.experiments.sweep import Sweep


def _write_spec(folder, **overrides):
    config = str(write_tiny_config(folder))
    content = {
        "seeds": [5],
        "overrides": {"SOLVER.MAX_ITER": 2, **overrides},
        "variants": {
            "plain": {"config": config},
            "bad": {"config": config, "overrides": {"SOLVER.BASE_LR": 1e30}},
        },
    }
    path = folder / "tiny.yaml.sweep"
    path.write_text(json.dumps(content))
    return str(path)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of which one run finished and one could not; its results folder and its message."""
    folder = tmp_path_factory.mktemp("sweep")
    spec = _write_spec(folder)
    with pytest.raises(UserError) as caught:
        sweep(spec, str(folder / "results"), jobs=2)
    return folder, spec, str(caught.value)


def test_a_failed_run_is_named_and_does_not_stop_the_others(swept):
    folder, _, message = swept
    assert "1 of 2 runs failed" in message
    assert "the loss is" in message and "log.txt" in message and "\n" not in message
    assert not (folder / "results/tiny.yaml/data/bad/seed5/record.json").exists()


def test_the_record_describes_the_run(swept):
    folder = swept[0] / "results/tiny.yaml/data/plain/seed5"
    record = json.loads((folder / "record.json").read_text())
    assert record["seed"] == record["settings"]["RNG_SEED"] == 5
    assert record["settings"]["SOLVER.MAX_ITER"] == record["overrides"]["SOLVER.MAX_ITER"] == 2
    assert set(record["versions"]) > {"torch", "numpy", "detectron_ext"}
    assert record["metrics"]["squares"]["num_images"] == 8
    assert 0 < record["seconds_training"] < record["seconds_of_last_process"]
    assert 0 < record["cpu_seconds_training"] < record["cpu_seconds_of_last_process"]
    assert record["peak_memory_mb"] > 50
    assert (record["threads"], record["resumed"]) == (1, False)
    assert {"commit", "modified"} < set(record)


def test_finished_runs_are_skipped(swept, capsys):
    folder, spec, _ = swept
    sweep(spec, str(folder / "results"), dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("done   tiny.yaml/data/plain/seed5 ")
    assert lines[1].startswith("to do  tiny.yaml/data/bad/seed5 ")
    assert "SOLVER.BASE_LR 1e+30" in lines[1]


def test_only_selected_runs_are_executed(swept, capsys):
    folder, spec, _ = swept
    sweep(spec, str(folder / "results"), only="/bad/", dry_run=True)
    assert len(capsys.readouterr().out.splitlines()) == 1
    with pytest.raises(UserError, match="no run whose folder name contains /none/"):
        sweep(spec, str(folder / "results"), only="/none/", dry_run=True)


def test_a_dry_run_leaves_no_trace(swept, capsys):
    sweep(swept[1], str(swept[0] / "elsewhere"), dry_run=True)
    assert not (swept[0] / "elsewhere").exists()


def test_results_of_other_settings_are_refused(swept):
    folder, _, _ = swept
    other = folder / "tiny.yaml.sweep"
    content = json.loads(other.read_text())
    content["overrides"]["SOLVER.MAX_ITER"] = 3
    other = folder / "other" / "tiny.yaml.sweep"
    other.parent.mkdir()
    other.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"another SOLVER\.MAX_ITER"):
        sweep(str(other), str(folder / "results"), dry_run=True)


def test_a_damaged_record_is_named(swept, tmp_path):
    folder = tmp_path / "tiny.yaml/data/plain/seed5"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text('{"settings": ')
    with pytest.raises(UserError, match="remove it to repeat the run"):
        sweep(swept[1], str(tmp_path), dry_run=True)


@pytest.mark.parametrize("settings", ["[1]", '{"RNG_SEED"', "[" * 100000])
def test_a_checkpoint_of_damaged_settings_is_not_resumed(swept, tmp_path, settings):
    folder = tmp_path / "tiny.yaml/data/plain/seed5"
    (folder / "train/squares/retinanet").mkdir(parents=True)
    (folder / "train/squares/retinanet/model_iter1.pkl").touch()
    (folder / "settings.json").write_text(settings)
    with pytest.raises(UserError, match="was run with another"):
        sweep(swept[1], str(tmp_path), dry_run=True)


def test_results_in_a_folder_that_cannot_be_written_are_a_failure(swept, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="2 of 2 runs failed, first .*: Not a directory"):
        sweep(swept[1], str(tmp_path / "file"))


def test_a_run_without_results_does_not_stop_the_others(swept, tmp_path, monkeypatch):
    plan = Sweep(read_spec(swept[1]).runs, str(tmp_path))
    quick, slow = plan.runs
    pipe, failures = tmp_path / "pipe", []
    os.mkfifo(pipe)
    script = f"cat {pipe}; echo error: to the end; exit 1"
    monkeypatch.setattr(plan, "command", {quick: ["true"], slow: ["sh", "-c", script]}.get)

    def warn(*message):
        failures.append(message)
        if len(failures) == 1:  # of the quick run; the slow one waits for the pipe's end
            pipe.write_text("")

    monkeypatch.setattr("detectron_ext.experiments.sweep._LOG.warning", warn)
    with pytest.raises(UserError, match="2 of 2 runs failed, first .*cannot read training log"):
        plan.run_all(2)
    assert "to the end" in (Path(plan.folder(slow)) / "log.txt").read_text()


def test_a_run_of_another_active_sweep_is_left_alone(swept, tmp_path):
    folders = [tmp_path / "tiny.yaml/data" / name / "seed5" for name in ("plain", "bad")]
    with contextlib.ExitStack() as stack:
        for folder in folders:
            folder.mkdir(parents=True)
            fcntl.flock(stack.enter_context((folder / ".lock").open("w")), fcntl.LOCK_EX)
        sweep(swept[1], str(tmp_path))
    assert not any((folder / "log.txt").exists() for folder in folders)


def test_a_run_that_continues_after_its_sweep_is_left_alone(swept, tmp_path, monkeypatch):
    plan = Sweep(read_spec(swept[1]).runs[:1], str(tmp_path))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(plan, "command", lambda run: ["cat", str(pipe)])
    sweeping = os.fork()
    if sweeping == 0:
        try:
            plan.run_all()
        finally:
            os._exit(0)
    writer = _opened_once_read(pipe, sweeping)
    os.kill(sweeping, signal.SIGKILL)
    os.waitpid(sweeping, 0)
    monkeypatch.setattr(plan, "command", lambda run: ["false"])
    plan.run_all()  # would raise an error if it started the run
    os.close(writer)
    with (Path(plan.folder(plan.runs[0])) / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # waits until the run has ended
    with pytest.raises(UserError, match="1 of 1 runs failed"):
        plan.run_all()


def _opened_once_read(pipe, process):
    """A named pipe's writing end, opened as soon as a child of ``process`` reads from the pipe."""
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO
        assert os.waitpid(process, os.WNOHANG) == (0, 0), "it ended before it started the run"
        time.sleep(0.01)


def test_data_sets_are_drawn_in_a_separate_process_before_the_first_run(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON_EXT_DATA", str(tmp_path / "drawn"))
    # The process that draws does not see this.
    monkeypatch.setattr("detectron_ext.experiments.sweep.resolve", None)
    spec = _write_spec(tmp_path, **{"TEST.DATASETS": "('digits_val',)"})
    plan = Sweep(read_spec(spec).runs[:1], str(tmp_path / "results"))
    ls = ["sh", "-c", f"ls {tmp_path}/drawn/digits/*; exit 1"]
    monkeypatch.setattr(plan, "command", lambda run: ls)
    with pytest.raises(UserError, match="1 of 1 runs failed"):
        plan.run_all()
    log = Path(plan.folder(plan.runs[0])) / "log.txt"
    assert log.read_text().split() == ["annotations.json", "images"]


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        ({"TEST.DATASETS": "('none',)"}, "variant plain: unknown data set none: "),
        (
            {"DATASETS_EXTRA.squares.im_dir": "/no/images"},
            "variant plain: data set squares: image folder /no/images not found",
        ),
        (
            {"DATASETS_EXTRA.squares.ann_fn": "/no/file.json"},
            "variant plain: data set squares: annotation file /no/file.json not found",
        ),
    ],
)
def test_a_data_set_that_is_not_there_is_named_before_anything_is_written(
    tmp_path, overrides, fault
):
    plan = Sweep(read_spec(_write_spec(tmp_path, **overrides)).runs, str(tmp_path / "results"))
    with pytest.raises(UserError) as caught:
        plan.run_all()
    assert str(caught.value).startswith(fault)
    assert not (tmp_path / "results").exists()


@pytest.fixture
def _heeds_ctrl_c():
    """A shell starts what it runs in the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# Arguments: a signal's number, tools/train_net.py and its arguments. After its first checkpoint the
# run sends the sweep, its parent, the signal, and waits until the sweep has passed it on.
_STOPS_ITS_SWEEP = """
import os, runpy, signal, sys, time
from detectron_ext.engine.training_loop import TrainingLoop

save_state, number, sweep = TrainingLoop._save_state, int(sys.argv[1]), os.getppid()


def save_and_stop_the_sweep(*arguments):
    path = save_state(*arguments)
    interruption = signal.getsignal(signal.SIGINT).__self__
    if not interruption.requested:
        os.kill(sweep, number)
    while not interruption.requested and os.getppid() == sweep:
        time.sleep(0.01)
    return path


TrainingLoop._save_state = save_and_stop_the_sweep
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.usefixtures("_heeds_ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_continues_from_the_checkpoint(tmp_path, monkeypatch, number):
    content = json.loads(Path(_write_spec(tmp_path, **{"SOLVER.MAX_ITER": 12})).read_text())
    del content["variants"]["bad"]
    path = tmp_path / "long.sweep"
    path.write_text(json.dumps(content))
    plan = Sweep(read_spec(str(path)).runs, str(tmp_path / "results"))
    folder = Path(plan.folder(plan.runs[0]))
    wrapper = tmp_path / "wrapper.py"
    wrapper.write_text(_STOPS_ITS_SWEEP)
    python, *rest = plan.command(plan.runs[0])
    command = [python, str(wrapper), str(int(number)), *rest]
    monkeypatch.setattr(plan, "command", lambda run: command)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        plan.run_all()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert plan.state(plan.runs[0]) == "begun"
    other = tmp_path / "other" / "long.sweep"
    other.parent.mkdir()
    content["overrides"]["SOLVER.MAX_ITER"] = 11
    other.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"another SOLVER\.MAX_ITER"):
        Sweep(read_spec(str(other)).runs, str(tmp_path / "results"))
    (log,) = folder.glob("train/*/*/stats.jsonl")
    before = [json.loads(line) for line in log.read_text().splitlines()]
    assert (log.parent / f"model_iter{before[-1]['iter']}.pkl").exists()
    Sweep(read_spec(str(path)).runs, str(tmp_path / "results")).run_all()
    record = json.loads((folder / "record.json").read_text())
    assert record["resumed"] is True
    # The log ends where the first process did, so its time counts with the second's.
    after = [json.loads(line) for line in log.read_text().splitlines()]
    assert after[: len(before)] == before and len(after) > len(before)
    for key in ("seconds", "cpu_seconds"):
        told, summed = record[f"{key}_training"], sum(entry[key] for entry in after)
        assert abs(told - summed) <= 0.05 and 0 < sum(entry[key] for entry in before) < summed
    assert "resuming from" in (folder / "log.txt").read_text()
    assert not list(folder.glob("train/squares/retinanet/model_iter*"))


@pytest.mark.parametrize("ending, status", [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", -9)])
def test_the_exit_status_of_a_run_is_reported(swept, tmp_path, monkeypatch, ending, status):
    plan = Sweep(read_spec(swept[1]).runs, str(tmp_path))
    os.makedirs(plan.folder(plan.runs[0]))
    monkeypatch.setattr(plan, "command", lambda run: ["sh", "-c", ending])
    with open(os.devnull) as lock:
        assert plan._execute(plan.runs[0], lock.fileno())[0] == status


def test_a_report_has_the_finished_runs_and_changes_only_its_part_of_the_page(swept):
    folder, spec, _ = swept
    page = folder / "docs" / "results.md"
    page.parent.mkdir()
    page.write_text(
        "# Found\n\n<!-- begin tiny.yaml -->\nold\n<!-- end tiny.yaml -->\n\nThe end.\n"
    )
    for _ in range(2):
        report(spec, str(folder / "results"), str(page))
    text = page.read_text()
    assert text.startswith("# Found\n\n<!-- begin") and text.endswith("-->\n\nThe end.\n")
    assert text.count("| plain (1) |") == 1 and "old" not in text
    assert "Not run yet: 1 runs" in text
    found = json.loads((page.with_suffix("") / "tiny.yaml.json").read_text())
    (run,) = found["places"]["data"]["runs"]
    record = json.loads((folder / "results/tiny.yaml/data/plain/seed5/record.json").read_text())
    assert run["scores"]["AP"] == record["metrics"]["squares"]["AP"]
    assert str(folder) not in json.dumps(found["places"]["data"]["comparisons"])
    assert found["missing"] == ["tiny.yaml/data/bad/seed5"]


def test_runs_on_different_data_sets_in_one_folder_are_refused(tmp_path):
    """The record of each run says that it is done. Otherwise only its test is read."""
    for name in ("plain", "libra"):
        folder = tmp_path / "results" / "two" / "data" / name / "seed1"
        write_test(folder, {"detections.json": []}, f"{name}_val")
        (folder / "record.json").write_text('{"settings": {}, "metrics": {}}')
    config = str(write_tiny_config(tmp_path))
    variants = {
        name: {"config": config, "overrides": {"TEST.DATASETS": [f"{name}_val"]}}
        for name in ("plain", "libra")
    }
    spec = tmp_path / "two.yaml"
    spec.write_text(json.dumps({"seeds": [1], "variants": variants}))
    with pytest.raises(UserError, match=r"plain/seed1 was tested on plain_val, .* on libra_val"):
        collect_results(read_spec(str(spec)), str(tmp_path / "results"))


def test_a_report_keeps_the_warnings_of_runs_that_are_in_no_comparison(swept, tmp_path, caplog):
    results, page = tmp_path / "results", tmp_path / "results.md"
    shutil.copytree(str(swept[0] / "results"), str(results))
    (log,) = (results / "tiny.yaml/data/plain").glob("seed5/train/*/*/stats.jsonl")
    log.write_text(log.read_text() + '{"iter": 2')
    report(swept[1], str(results), str(page))
    warning = "tiny.yaml/data/plain/seed5: damaged lines in stats.jsonl: 1"
    assert f"\n\nWarning: {warning}" in page.read_text() and warning in caplog.text
    found = json.loads((tmp_path / "results" / "tiny.yaml.json").read_text())
    assert found["places"]["data"]["warnings"][0].startswith(warning)


def test_a_test_on_another_data_set_is_not_reported(swept, tmp_path):
    """The configuration of the run names another data set."""
    results = tmp_path / "results"
    shutil.copytree(str(swept[0] / "results"), str(results))
    folder = results / "tiny.yaml/data/plain/seed5/test"
    shutil.copytree(str(folder / "squares"), str(folder / "others"))
    found = collect_results(read_spec(swept[1]), str(results), 5)
    assert len(found["places"]["data"]["runs"]) == 1


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("page", "", "has no extension"),
        ("page.md", b"\xff\xfe", "is not UTF-8 text"),
        ("page.md", None, "cannot be read: Is a directory"),
        ("page.md", b"<!-- end tiny.yaml -->\n<!-- begin tiny.yaml -->", "must hold <!-- begin"),
        ("page.md", b"<!-- begin tiny.yaml -->", "must hold <!-- begin tiny.yaml --> once"),
        ("page.md", 2 * b"<!-- begin tiny.yaml -->\n<!-- end tiny.yaml -->\n", "must hold"),
    ],
)
def test_a_page_that_cannot_be_written_is_not_changed(swept, tmp_path, name, content, message):
    page = tmp_path / name
    if content is None:
        page.mkdir()
    elif content:
        page.write_bytes(content)
    with pytest.raises(UserError, match=message):
        report(swept[1], str(swept[0] / "results"), str(page))
    assert [path.name for path in tmp_path.iterdir()] == ([] if content == "" else [name])
    assert not content or page.read_bytes() == content


def test_nothing_to_report_is_an_error(swept, tmp_path):
    with pytest.raises(UserError, match="run the sweep first"):
        report(swept[1], str(tmp_path / "none"), str(tmp_path / "results.md"))
