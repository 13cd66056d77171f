"""Two models under one folder name: nothing made with the one is taken for the other's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import make_model, make_tokenizer
from running import call

from utils.errors import UserError
from utils.files.contents import read_record
from utils.files.paths import record_path
from utils.vectors.origin import Origin, check_steered

LAYERS = (1, 2)
BEHAVIORS = ("calm", "bold")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``x/final`` and ``y/final``: the same shapes and label, other weights."""
    root = tmp_path_factory.mktemp("checkpoints")
    model = make_model("llama")
    for name in ("x", "y"):
        model.save_pretrained(root / name / "final")
        make_tokenizer().save_pretrained(root / name / "final")
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
    return {name: root / name / "final" for name in ("x", "y")}


class Desk:
    """The scripts on one folder of artefacts, with a model by its short name."""

    def __init__(self, models: dict[str, Path], datasets: Path, out: Path) -> None:
        self.models, self.out = models, out
        self.flags = ("--artifacts_dir", out)
        self.data = (*self.flags, "--datasets_dir", datasets)

    def model(self, name: str) -> tuple[object, ...]:
        return (*self.data, "--model", self.models[name])

    def generate(self, name: str, *more: object) -> None:
        layers = () if "--layers" in more else ("--layers", *LAYERS)
        assert call("generate_vectors", *layers, *self.model(name), *more) == 0

    def normalize(self, *more: object) -> None:
        assert call("normalize_vectors", *self.data, *more) == 0

    def steer(self, name: str, *more: object) -> None:
        strengths = () if "--doses" in more else ("--multipliers", 1)
        grid = ("--layers", 1, "--behaviors", "calm", *strengths)
        assert call("prompting_with_steering", *grid, *self.model(name), *more) == 0

    def vector(self, kind: str, behavior: str = "calm", layer: int = 1) -> Path:
        return self.out / kind / behavior / f"vec_layer_{layer}_final.pt"

    def records(self) -> Iterator[Path]:
        yield from (self.out / "normalized_vectors").rglob(".*.record")


@pytest.fixture
def desk(models: dict[str, Path], datasets: Path, tmp_path: Path) -> Desk:
    return Desk(models, datasets, tmp_path / "out")


@pytest.fixture
def ready(desk: Desk) -> Desk:
    """Vectors of x, normalised."""
    desk.generate("x", "--save_activations")
    desk.normalize()
    return desk


def edit_records(desk: Desk, **changes: object) -> None:
    for path in desk.records():
        record = json.loads(path.read_text())
        for name, value in changes.items():
            record.pop(name) if value is None else record.update({name: value})
        path.write_text(json.dumps(record))


@pytest.mark.parametrize("strength", [(), ("--doses", 0.1)])
def test_another_models_vectors_are_refused_and_can_be_asked_for(
    ready: Desk, strength: tuple[object, ...]
) -> None:
    with pytest.raises(UserError, match="--override_vector_model final") as refused:
        ready.steer("y", *strength)
    assert "weights: " in str(refused.value) and "vec_layer_1_final.pt" in str(refused.value)
    ready.steer("x", *strength)
    if not strength:
        ready.steer("y", "--override_vector_model", "final")
        (result,) = (ready.out / "results/calm").glob("*override_vector_model*.json")
        record = read_record(result)
        assert record is not None
        assert record["vector_origin"]["weights"] != record["inputs"]["weights"]


@pytest.mark.parametrize(
    ("way", "field"),
    [(("--dtype", "bfloat16"), "dtype"), (("template",), "template")],
)
def test_another_dtype_or_template_is_refused(
    ready: Desk, way: tuple[str, ...], field: str, tmp_path: Path
) -> None:
    options: tuple[object, ...] = way
    if field == "template":
        other = tmp_path / "other" / "final"
        shutil.copytree(ready.models["x"], other)
        tokenizer = make_tokenizer()
        tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "<|im_end|> ")
        tokenizer.save_pretrained(other)
        ready.models = ready.models | {"x": other}
        options = ()
    with pytest.raises(UserError, match=f"{field}: "):
        ready.steer("x", *options)
    ready.steer("x", *options, "--override_vector_model", "final")


def test_a_system_prompt_is_no_other_template(ready: Desk) -> None:
    ready.steer("x", "--system_prompt", "pos")


@pytest.mark.parametrize("raw", ["kept", "of another model since", "gone"])
def test_records_that_do_not_say_are_used_as_before_or_read_from_the_raw_ones(
    ready: Desk, raw: str
) -> None:
    """Normalised vectors' records of earlier versions name the raw vectors by hash only."""
    edit_records(ready, vector_origin=None)
    if raw == "of another model since":
        ready.generate("y", "--overwrite")
    elif raw == "gone":
        shutil.rmtree(ready.out / "vectors")
    if raw == "kept":
        with pytest.raises(UserError, match="weights: "):
            ready.steer("y")
    else:
        ready.steer("y")


def test_vectors_without_a_record_are_used_as_before(ready: Desk) -> None:
    for path in ready.out.rglob(".*.record"):
        path.unlink()
    ready.steer("y")


def test_a_carried_origin_outlives_the_raw_vectors(ready: Desk) -> None:
    shutil.rmtree(ready.out / "vectors")
    ready.steer("x")
    with pytest.raises(UserError, match="weights: "):
        ready.steer("y")


def test_vectors_of_two_models_are_not_normalised_or_compared_together(desk: Desk) -> None:
    desk.generate("x", "--behaviors", "calm")
    desk.generate("y", "--behaviors", "bold")
    with pytest.raises(UserError, match="cannot be normalised together"):
        desk.normalize()
    with pytest.raises(UserError, match="cannot be compared together"):
        call("analyze_vectors", *desk.data)
    assert not (desk.out / "normalized_vectors").exists()


def test_layers_of_two_models_are_not_compared_or_plotted_together(desk: Desk) -> None:
    for name, layer in (("x", 1), ("y", 2)):
        desk.generate(name, "--layers", layer, "--save_activations")
    desk.normalize()
    with pytest.raises(UserError, match="cannot be compared together"):
        call("analyze_vectors", *desk.data)
    with pytest.raises(UserError, match="cannot be plotted together"):
        call("plot_activations", *desk.data, "--behaviors", "calm")


def test_results_of_two_models_are_not_plotted_together(ready: Desk) -> None:
    ready.steer("x", "--layers", 1)
    ready.generate("y", "--overwrite", "--save_activations")
    ready.normalize("--overwrite")
    ready.steer("y", "--layers", 2)
    with pytest.raises(UserError, match="cannot be plotted together"):
        call("plot_results", *ready.model("y"), "--behaviors", "calm")


def test_a_length_measured_on_another_model_gives_no_dose(ready: Desk) -> None:
    """H is looked up by the name of the steered model: at layer 2 it is another one's."""
    ready.generate("y", "--overwrite", "--layers", 1)
    with pytest.raises(UserError, match="nobody has measured"):
        call(
            "prompting_with_steering",
            *("--layers", 2, "--behaviors", "calm", "--doses", 0.1, "--override_vector", 1),
            *ready.model("y"),
            *("--override_vector_model", "final"),
        )


@pytest.mark.parametrize(
    ("vector", "run", "taken"),
    [
        ("aa", "aa", True),
        ("aa", "bb", False),
        ("aa", "aa+ff", True),  # a finetuned model steered with its base's vectors
        ("bb", "aa+ff", False),
        ("aa+ff", "aa", False),
        ("aa+ff", "aa+ff", True),
        ("aa+ff", "aa+ee", False),
        ("aa", "aa.01", True),  # the record of an earlier version
        ("aa.01", "aa.02", False),
        ("aa.01", "aa.01+ff.03", True),
        (None, "aa", True),
    ],
)
def test_which_weights_go_together(vector: str | None, run: str, taken: bool) -> None:
    path = Path("normalized_vectors/calm/vec_layer_1_my_final.pt")
    assert record_path(path).name == ".vec_layer_1_my_final.pt.record"
    if taken:
        check_steered(path, Origin(vector), Origin(run, "float32"))
    else:
        with pytest.raises(UserError, match="--override_vector_model my_final"):
            check_steered(path, Origin(vector), Origin(run, "float32"))
