"""LIBRA.IMPORTS: parts from a user's files, chosen by name in the configuration."""

from __future__ import annotations

import json

import pytest

from detectron_ext import config
from detectron_ext.config import imports
from detectron_ext.config.keys import KEYS
from detectron_ext.config.rules import RegisteredName
from detectron_ext.engine.checkpoints import newest_checkpoint
from detectron_ext.engine.trained_settings import check_checkpoint, check_final
from detectron_ext.engine.weights_file import Weights, write_weights
from detectron_ext.errors import ConfigError, UserError
from detectron_ext.experiments.record import read_record, settings, started_settings
from detectron_ext.modeling.box_losses import BOX_LOSSES

pytestmark = pytest.mark.usefixtures("restored_registries")

# Registers a box loss of a given name, and appends a line to the file beside it.
PART = """
from pathlib import Path
from detectron_ext.modeling.box_losses import BOX_LOSSES, BoxLoss
BOX_LOSSES.register({name!r})(BoxLoss(None))
with open(str(Path(__file__).with_suffix(".log")), "a") as file:
    print("imported", file=file)
"""


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file below a folder of the test's own."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def times_imported(path) -> int:
    log = path.with_suffix(".log")
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_an_import_is_relative_to_the_file_that_names_it(write):
    part = write("parts/mine.py", PART.format(name="mine"))
    path = write("a.yaml", {"LIBRA": {"IMPORTS": ["parts/mine.py"], "BOX_LOSS": "mine"}})
    loaded = config.load(str(path))
    assert loaded.LIBRA.BOX_LOSS == "mine" and loaded.LIBRA.IMPORTS == ["parts/mine.py"]
    config.load(str(path))
    config.load(str(path), ["LIBRA.IMPORTS", [str(part)]])
    assert times_imported(part) == 1


def test_imports_of_all_files_in_a_base_chain_are_joined(write):
    lower = write("base/lower.py", PART.format(name="lower"))
    upper = write("upper.py", PART.format(name="upper"))
    write("base/base.yaml", {"LIBRA": {"IMPORTS": ["lower.py"]}})
    tree = {"_BASE_": "base/base.yaml", "LIBRA": {"IMPORTS": ["upper.py"], "BOX_LOSS": "lower"}}
    loaded = config.load(str(write("a.yaml", tree)))
    assert times_imported(lower) == times_imported(upper) == 1
    assert loaded.LIBRA.IMPORTS == ["lower.py", "upper.py"]


def test_an_override_is_relative_to_the_current_folder(write, tmp_path, monkeypatch):
    part = write("mine.py", PART.format(name="mine"))
    monkeypatch.chdir(tmp_path)
    overrides = ["LIBRA.BOX_LOSS", "mine", "LIBRA.IMPORTS", "['mine.py']"]
    assert config.load(None, overrides).LIBRA.BOX_LOSS == "mine"
    assert times_imported(part) == 1


def test_a_module_is_found_on_pythons_path(write, tmp_path, monkeypatch):
    part = write("parts_of_mine/__init__.py", PART.format(name="mine"))
    monkeypatch.syspath_prepend(str(tmp_path))
    overrides = ["LIBRA", {"IMPORTS": ["parts_of_mine"], "BOX_LOSS": "mine"}]
    assert config.load(None, overrides).LIBRA.BOX_LOSS == "mine"
    assert times_imported(part) == 1


def test_an_unregistered_name_gets_a_suggestion(write):
    write("mine.py", PART.format(name="mine_l1"))
    path = write("a.yaml", {"LIBRA": {"IMPORTS": ["mine.py"], "BOX_LOSS": "mine_l2"}})
    with pytest.raises(ConfigError) as error:
        config.load(str(path))
    assert str(error.value) == (
        "LIBRA.BOX_LOSS must be one of smooth_l1, balanced_l1, mine_l1, given 'mine_l2' (str); did "
        "you mean mine_l1?"
    )


@pytest.mark.parametrize(
    "content, entry, message",
    [
        ("", "other.py", "there is no file {folder}/other.py"),
        ("", "mine", "there is no module mine: write mine.py for the file of that name"),
        (
            "",
            "no_such_module",
            "there is no module no_such_module: install it, put its folder into",
        ),
        ("", "no_such.module", "there is no module no_such.module: install it"),
        ("", "a folder/mine", "'a folder/mine' is neither a module's name nor the path of a .py"),
        ("\n1 / 0\n", "mine.py", "{folder}/mine.py, line 2: ZeroDivisionError: division by zero"),
        ("x = 1\nx = = 2\n", "mine.py", "{folder}/mine.py, line 2: SyntaxError: invalid syntax"),
        ("import sys\nsys.exit(3)\n", "mine.py", "{folder}/mine.py, line 2: SystemExit: 3"),
        ("import json\njson.loads('')", "mine.py", "{folder}/mine.py, line 2: JSONDecodeError: "),
        ("\nraise SystemExit(3)\n", "mine.py", "{folder}/mine.py, line 2: SystemExit: 3"),
        ("\nimport no_such_module\n", "mine.py", "mine.py, line 2: ModuleNotFoundError: No module"),
        (
            PART.format(name="smooth_l1"),
            "mine.py",
            "{folder}/mine.py, line 4: LIBRA.BOX_LOSS: 'smooth_l1' is registered already",
        ),
    ],
)
def test_faults_end_in_one_line(write, tmp_path, content, entry, message):
    write("mine.py", content)
    path = write("a.yaml", {"LIBRA": {"IMPORTS": [entry]}})
    with pytest.raises(ConfigError) as error:
        config.load(str(path))
    text = str(error.value)
    assert text.startswith(f"LIBRA.IMPORTS in {path}: ") and "\n" not in text
    assert message.format(folder=tmp_path.resolve()) in text


def test_an_error_in_a_module_names_its_file_and_line(write, tmp_path, monkeypatch):
    part = write("broken_part.py", "\n\nraise RuntimeError('two\\nlines')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=f"{part}, line 3: RuntimeError: two lines$"):
        config.load(None, ["LIBRA.IMPORTS", ["broken_part"]])


def test_a_failed_file_can_be_corrected_and_imported_again(write):
    part = write("mine.py", PART.format(name="mine") + "1 / 0\n")
    path = write("a.yaml", {"LIBRA": {"IMPORTS": ["mine.py"], "BOX_LOSS": "mine"}})
    for _ in range(2):
        with pytest.raises(ConfigError, match="mine.py, line 7: ZeroDivisionError"):
            config.load(str(path))
        assert "mine" not in BOX_LOSSES
    part.write_text(PART.format(name="mine"))
    assert config.load(str(path)).LIBRA.BOX_LOSS == "mine"


@pytest.mark.parametrize("value", ["mine.py", 3, {"a": 1}])
def test_imports_must_be_a_list(write, value):
    with pytest.raises(ConfigError, match="LIBRA.IMPORTS in .* expects a list"):
        config.load(str(write("a.yaml", {"LIBRA": {"IMPORTS": value}})))


def test_a_stored_configuration_imports_nothing(write, tmp_path):
    evil = write("evil.py", PART.format(name="evil"))
    keys = {"IMPORTS": [str(evil)], "BOX_LOSS": "evil"}
    stored = f"LIBRA: {json.dumps(keys)}\nSOLVER: {{MAX_ITER: 9}}\n"
    write_weights(str(tmp_path / "model_final.pkl"), Weights({}, stored, None))
    write_weights(str(tmp_path / "model_iter3.pkl"), Weights({}, stored, None))
    wanted = config.load(None, ["SOLVER.MAX_ITER", 9])
    with pytest.raises(UserError, match="trained with LIBRA.BOX_LOSS 'evil'"):
        check_final(wanted, str(tmp_path / "model_final.pkl"))
    with pytest.raises(UserError, match="trained with LIBRA.BOX_LOSS 'evil'"):
        check_checkpoint(wanted, newest_checkpoint(str(tmp_path)))
    config.load_legacy_yaml(stored)
    config.flat_legacy_settings(stored)
    record = {"settings": {"LIBRA.IMPORTS": [str(evil)], "LIBRA.BOX_LOSS": "evil"}, "metrics": {}}
    write("record.json", record)
    write("settings.json", record["settings"])
    assert read_record(str(tmp_path)) == record
    assert started_settings(str(tmp_path)) == record["settings"]
    assert times_imported(evil) == 0


@pytest.mark.parametrize("nested", [False, True])
def test_overrides_of_a_loaded_configuration_import_nothing(write, nested):
    evil = write("evil.py", PART.format(name="evil"))
    entries = [str(evil)]
    overrides = ["LIBRA", {"IMPORTS": entries}] if nested else ["LIBRA.IMPORTS", entries]
    with pytest.raises(ConfigError, match="LIBRA.IMPORTS takes effect when a configuration is"):
        config.load().with_overrides(overrides)
    assert times_imported(evil) == 0


def test_a_run_continues_if_only_the_list_of_imports_differs(write, tmp_path, caplog):
    write("mine.py", PART.format(name="mine"))
    path = write("a.yaml", {"LIBRA": {"IMPORTS": ["mine.py"], "BOX_LOSS": "mine"}})
    moved = write("sub/a.yaml", {"LIBRA": {"IMPORTS": ["../mine.py"], "BOX_LOSS": "mine"}})
    trained, wanted = config.load(str(path)), config.load(str(moved))
    assert "mine.py" in config.dump_yaml(trained)
    weights = str(tmp_path / "model_final.pkl")
    write_weights(weights, Weights({}, config.dump_legacy_yaml(trained), None))
    check_final(wanted, weights)
    assert not caplog.records
    assert settings(trained)["LIBRA.IMPORTS"] == ["mine.py"]


def test_the_default_of_every_registry_is_registered():
    chosen = {
        name: key
        for name, key in KEYS.items()
        if any(isinstance(rule, RegisteredName) for rule in key.rules)
    }
    assert {"LIBRA.BOX_LOSS", "LIBRA.SAMPLER.NEGATIVE"} < set(chosen)
    for name, key in chosen.items():
        # "" is no name of a box loss: it leaves the choice to BALANCED_L1.ON.
        assert key.default in key.choices or name == "LIBRA.BOX_LOSS", name


def test_an_empty_list_imports_nothing():
    assert imports.import_parts([({"LIBRA": {"IMPORTS": []}}, "a.yaml")]) == []
