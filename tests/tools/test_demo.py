from __future__ import annotations

import pytest
from squares import write_tiny_config

from detectron_ext.commands.demo import demo
from detectron_ext.errors import UserError


def test_the_report_never_shows_settings_that_its_models_were_not_trained_with(tmp_path):
    model = {"RetinaNet": str(write_tiny_config(tmp_path))}
    folder = str(tmp_path / "demo")
    page = demo(model, folder, ["SOLVER.MAX_ITER", "2"])
    with open(page) as file:
        before = file.read()
    with pytest.raises(UserError, match="SOLVER.MAX_ITER 2, and now it is 6"):
        demo(model, folder)
    demo(model, folder, ["SOLVER.MAX_ITER", "2", "LIBRA.LOG_PERIOD", "5"])
    with open(page) as file:
        assert file.read() == before
