"""Recipes are read, checked, and unchanged after writing and reading."""

import json
from dataclasses import asdict

import pytest

from nipype_quicksilver.data import SHIPPED, shipped_recipe
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.training.recipes import plan_from_json, read_plan

HEADER = {"format": "quicksilver-recipe", "version": 1}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes(name):
    plan = read_plan(shipped_recipe(name))
    assert plan_from_json(json.loads(json.dumps(plan.as_json()))) == plan
    assert (plan.architecture == "patch") == (name == "patch")


def test_patches_are_those_of_the_paper():
    plan = read_plan(shipped_recipe("patch"))
    assert plan.parameters == {"features": 64, "patch_size": 15}
    assert (plan.training.learning_rate, plan.training.stride) == (1e-4, 14)


def test_defaults():
    from nipype_quicksilver.training.end_to_end import EndToEndRecipe

    plan = plan_from_json({**HEADER, "training": {"kernel": {"alpha": 1}, "learning_rate": 1}})
    expected = asdict(EndToEndRecipe())
    expected["kernel"]["alpha"] = expected["learning_rate"] = 1.0
    assert asdict(plan.training) == expected
    assert isinstance(plan.training.learning_rate, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, 'needs the entry "format"'),
        ({"version": 2}, "another version"),
        ({"trainings": {}}, "has no entry 'trainings'"),
        ({"training": {"iteration": 3}}, "training has no entry 'iteration'"),
        ({"training": {"iterations": 3.5}}, "training.iterations cannot be 3.5"),
        ({"training": {"iterations": True}}, "training.iterations cannot be true"),
        ({"training": {"iterations": 0}}, "training.iterations is not positive"),
        ({"training": {"ranges": {"bias": "much"}}}, 'training.ranges.bias cannot be "much"'),
        ({"training": {"kernel": {"gamma": 0}}}, "gamma > 0"),
        ({"training": {"averaging": 1.0}}, "training.averaging"),
        ({"training": {"crop": 1000}}, "training.crop"),
        ({"training": []}, "training is not a JSON object"),
        ({"grid": [100, 100, 100]}, "grid is not three multiples of 8"),
        ({"grid": [96, 96]}, "grid is not three multiples of 8"),
        ({"architecture": {"name": "transformer"}}, "is 'transformer', not one of"),
        ({"architecture": {"parameters": {"depth": 3}}}, "its parameters are not valid"),
        ({"architecture": {"parameters": {"velocity": 3}}}, "multiples of the image factor"),
        ({"training": {"factor": 4}}, "image is not a multiple of training.factor"),
        ({"training": {"factor": 8}}, "training.factor is more than 6"),
        (
            {
                "architecture": {"parameters": {"image": 4, "velocity": 4, "scales": [4, 8]}},
                "grid": [168, 200, 168],
                "training": {"factor": 4},
            },
            "the sides of grid are not multiples of 16",
        ),
        ({"validation": {"every": 0}}, "validation.every is not a whole number"),
        ({"validation": {"ranges": {"noises": 1}}}, "validation.ranges has no entry 'noises'"),
    ],
)
def test_recipes_that_cannot_be_used(change, message, tmp_path):
    path = tmp_path / "a recipe.json"
    path.write_text(json.dumps({**HEADER, **change}))
    with pytest.raises(InputError) as error:
        read_plan(path)
    assert str(error.value).startswith(f"{path}: this recipe cannot be used: ")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_files_that_are_not_recipes(tmp_path):
    path = tmp_path / "recipe.json"
    for content, message in (("{", "is not JSON (line 1)"), ("[]", "is not a JSON object")):
        path.write_text(content)
        with pytest.raises(InputError, match=r"recipe\.json: ") as error:
            read_plan(path)
        assert message in str(error.value)
    unusable = {
        '{"grid": [NaN]}': "the number NaN is not finite",
        "[" * 100_000: "nested too deeply",
        "[" * 60 + "]" * 60: "nested more than 50 levels",
        "9" * 5000: "the integer 99999999999999999999 is too large",
        '"\\ud800"': "surrogates not allowed",
    }
    for content, message in unusable.items():
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            read_plan(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not text in UTF-8"):
        read_plan(path)
    with pytest.raises(InputError, match="no such file; give a recipe, or one of prediction"):
        read_plan(tmp_path / "missing.json")
