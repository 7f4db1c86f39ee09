from __future__ import annotations

import pytest
from squares import write_tiny_config
from tool_runner import Outcome, Workplace, run_tool


@pytest.fixture(scope="session")
def _trained(tmp_path_factory):
    """Two iterations by tools/train_net.py, then its test."""
    folder = tmp_path_factory.mktemp("tools")
    workplace = Workplace(folder, write_tiny_config(folder), folder / "model.pkl")
    outcome = run_tool(
        "train_net", "--cfg", workplace.cfg, "SOLVER.MAX_ITER", 2, "TRAIN.SNAPSHOT_ITERS", 1
    )
    assert outcome.status == 0, outcome.err
    (workplace.training / "model_final.pkl").rename(workplace.weights)
    return workplace, outcome, workplace.results()


@pytest.fixture
def first_run(_trained) -> Outcome:
    """What the training and test that made the workplace printed."""
    return _trained[1]


@pytest.fixture
def workplace(_trained) -> Workplace:
    """The trained model; its results must be the same after the test."""
    place, _, before = _trained
    yield place
    after = place.results()
    assert {path: after.get(path) for path in before} == before


@pytest.fixture
def tool(workplace):
    """Return a function: tool, arguments -> outcome, with the workplace's --cfg."""
    return lambda name, *arguments: run_tool(name, "--cfg", workplace.cfg, *arguments)
