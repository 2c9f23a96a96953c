"""Recipes: read, checked, and the same again when written."""

import json
from dataclasses import asdict

import pytest

from nipype_quicksilver.data import SHIPPED, shipped_recipe
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.training.recipes import plan_of, read_plan

FACTS = {"format": "quicksilver-recipe", "version": 1}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes(name):
    plan = read_plan(shipped_recipe(name))
    assert plan_of(json.loads(json.dumps(plan.as_json()))) == plan
    assert (plan.architecture == "patch") == (name == "patch")


def test_patches_are_those_of_the_paper():
    plan = read_plan(shipped_recipe("patch"))
    assert plan.parameters == {"features": 64, "patch_size": 15}
    assert (plan.training.learning_rate, plan.training.stride) == (1e-4, 14)


def test_defaults():
    from nipype_quicksilver.training.end_to_end import Recipe

    plan = plan_of({**FACTS, "training": {"kernel": {"alpha": 1}, "learning_rate": 1}})
    expected = asdict(Recipe())
    expected["kernel"]["alpha"] = expected["learning_rate"] = 1.0
    assert asdict(plan.training) == expected
    assert isinstance(plan.training.learning_rate, float)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": "other"}, 'needs the entry "format"'),
        ({"version": 2}, "another version"),
        ({"trainings": {}}, "has no entry 'trainings'"),
        ({"training": {"iteration": 3}}, "training has no entry 'iteration'"),
        ({"training": {"iterations": 3.5}}, "training.iterations cannot be 3.5"),
        ({"training": {"iterations": True}}, "training.iterations cannot be true"),
        ({"training": {"iterations": 0}}, "training.iterations is not positive"),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate is not finite"),
        ({"training": {"ranges": {"bias": "much"}}}, 'training.ranges.bias cannot be "much"'),
        ({"training": {"kernel": {"gamma": 0}}}, "gamma > 0"),
        ({"training": {"averaging": 1.0}}, "training.averaging"),
        ({"training": {"crop": 1000}}, "training.crop"),
        ({"training": []}, "training is no JSON object"),
        ({"grid": [100, 100, 100]}, "grid is not three multiples of 8"),
        ({"grid": [96, 96]}, "grid is not three multiples of 8"),
        ({"architecture": {"name": "transformer"}}, "is 'transformer', not one of"),
        ({"architecture": {"parameters": {"depth": 3}}}, "its parameters are no good"),
        ({"architecture": {"parameters": {"velocity": 3}}}, "multiples of the image's"),
        ({"training": {"factor": 4}}, "image is no multiple of training.factor"),
        ({"training": {"factor": 8}}, "training.factor is more than 6"),
        (
            {
                "architecture": {"parameters": {"image": 4, "velocity": 4, "scales": [4, 8]}},
                "grid": [168, 200, 168],
                "training": {"factor": 4},
            },
            "the sides of grid are no multiples of 16",
        ),
        ({"validation": {"every": 0}}, "validation.every is not a whole number"),
        ({"validation": {"ranges": {"noises": 1}}}, "validation.ranges has no entry 'noises'"),
    ],
)
def test_recipes_that_cannot_be_used(change, told, tmp_path):
    path = tmp_path / "a recipe.json"
    path.write_text(json.dumps({**FACTS, **change}))
    with pytest.raises(InputError) as error:
        read_plan(path)
    assert str(error.value).startswith(f"{path}: this recipe cannot be used: ")
    assert told in str(error.value) and "\n" not in str(error.value)


def test_files_that_are_no_recipe(tmp_path):
    path = tmp_path / "recipe.json"
    for content, told in (("{", "is no JSON (line 1)"), ("[]", "is no JSON object")):
        path.write_text(content)
        with pytest.raises(InputError, match=r"recipe\.json: ") as error:
            read_plan(path)
        assert told in str(error.value)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        read_plan(path)
    with pytest.raises(InputError, match="no such file; give a recipe, or one of prediction"):
        read_plan(tmp_path / "missing.json")
