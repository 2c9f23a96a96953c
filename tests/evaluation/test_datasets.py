import pytest

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.evaluation.datasets import find_subjects, ordered_pairs
from nipype_quicksilver.evaluation.pairs import with_orientations
from nipype_quicksilver.spatial.grids import check_same_grid
from nipype_quicksilver.spatial.images import read_image, read_labels
from tests.helpers import trees

pytestmark = pytest.mark.filterwarnings("ignore:.* of the .* subjects")


@pytest.mark.parametrize(
    ("dataset", "make", "image", "labels"),
    [
        ("CUMC12", trees.cumc12, "Brains/m1.hdr", "Atlases/m1.hdr"),
        ("MGH10", trees.mgh10, "Heads/g1.nii.gz", "Atlases/g1.nii.gz"),
        (
            "LPBA40",
            trees.lpba40,
            "delineation_space/S01/S01.delineation.skullstripped.hdr",
            "delineation_space/S01/S01.delineation.structure.label.hdr",
        ),
        ("LPBA40", trees.in_one_space, "brain_affine_icbm/l2.nii", "label_affine_icbm/l2.nii"),
        (
            "IBSR18",
            trees.ibsr18,
            "IBSR_nifti_stripped/IBSR_01/IBSR_01_ana_strip.nii",
            "IBSR_nifti_stripped/IBSR_01/IBSR_01_seg_ana.nii",
        ),
    ],
)
@pytest.mark.parametrize("around", [False, True])
def test_files_are_found_and_can_be_read(dataset, make, image, labels, around, tmp_path):
    root = make(tmp_path / "data" / dataset)
    subjects = find_subjects(dataset, root.parent if around else root)
    assert subjects[0].image == root / image
    assert subjects[0].labels == root / labels
    assert (subjects[0].mask is not None) == (dataset == "MGH10")
    (tmp_path / "copies").mkdir()
    for pair in with_orientations(ordered_pairs(dataset, subjects), tmp_path / "copies"):
        for side in ("fixed", "moving"):
            check_same_grid(
                read_image(getattr(pair, side)), read_labels(getattr(pair, f"{side}_labels"))
            )


def test_folders_of_one_level_are_found_too(tmp_path):
    root = trees.lpba40(tmp_path) / "delineation_space"
    assert find_subjects("LPBA40", root)[1].image.parent.name == "S03"


def test_all_ordered_pairs(tmp_path):
    subjects = find_subjects("CUMC12", trees.cumc12(tmp_path))
    pairs = ordered_pairs("CUMC12", subjects)
    assert [pair.name for pair in pairs] == [
        *("m2_to_m1", "m3_to_m1", "m1_to_m2", "m3_to_m2", "m1_to_m3", "m2_to_m3")
    ]
    assert {pair.label_set for pair in pairs} == {"CUMC12"}


def test_fewer_pairs_are_the_first_of_more(tmp_path):
    subjects = find_subjects("CUMC12", trees.cumc12(tmp_path))
    names = [
        [pair.name for pair in ordered_pairs("CUMC12", subjects, number, seed=5)]
        for number in (2, 4, 100)
    ]
    assert names[1][:2] == names[0]
    assert names[2][:4] == names[1]
    assert len(names[2]) == 6
    assert names[0] != [pair.name for pair in ordered_pairs("CUMC12", subjects, 2, seed=6)]


def test_missing_subjects_are_reported(tmp_path):
    with pytest.warns(UserWarning, match="has 3 of the 12 subjects of CUMC12"):
        find_subjects("CUMC12", trees.cumc12(tmp_path))


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="data set 'OASIS' is unknown; give LPBA40, IBSR18"):
        find_subjects("OASIS", tmp_path)
    with pytest.raises(InputError, match="no such folder; give the folder in which MGH10"):
        find_subjects("MGH10", tmp_path / "none")
    with pytest.raises(InputError, match=r"is not MGH10, .* such as .*Brains/g1 or Heads/g1"):
        find_subjects("MGH10", trees.cumc12(tmp_path))


def test_a_subject_without_labels_is_refused(tmp_path):
    trees.cumc12(tmp_path)
    (tmp_path / "Atlases" / "m2.hdr").unlink()
    (tmp_path / "Atlases" / "m2.img").unlink()
    with pytest.raises(InputError, match=r"m2.hdr: has no label map .*Atlases/m2.nii.gz"):
        find_subjects("CUMC12", tmp_path)
