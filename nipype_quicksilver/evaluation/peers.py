"""Arguments of the external tools whose registrations are compared with those of this package.

They name files in the working folder only: the tools parse names themselves, and not any name is
safe with them.
"""

from __future__ import annotations

#: Metric of greedy, and its iterations at each level.
GREEDY_METRIC = ("-m", "NCC", "2x2x2", "-n", "100x50x10")
#: Displacement fields that the tools write; the affine follows them.
GREEDY_WARP, SYN_WARP = "warp.nii.gz", "syn1Warp.nii.gz"


def greedy_arguments(fixed: str, moving: str, affine: str, num_threads: int) -> list[str]:
    """Return the arguments with which greedy registers two brains.

    Parameters
    ----------
    fixed, moving, affine : str
        File names; the affine as a matrix in text, fixed to moving points, RAS mm.
    num_threads : int
        At least 1.

    Returns
    -------
    list of str
        The field will be :data:`GREEDY_WARP`.

    Examples
    --------
    >>> " ".join(greedy_arguments("f.nii", "m.nii", "a.txt", 2))
    '-d 3 -m NCC 2x2x2 -n 100x50x10 -i f.nii m.nii -it a.txt -o warp.nii.gz -threads 2'
    """
    files = ["-i", fixed, moving, "-it", affine, "-o", GREEDY_WARP]
    return ["-d", "3", *GREEDY_METRIC, *files, "-threads", str(num_threads)]


def syn_arguments(fixed: str, moving: str, affine: str) -> list[str]:
    """Return the arguments with which antsRegistration registers two brains by SyN.

    As in ``antsRegistrationSyN.sh``: cross-correlation with a radius of 4 voxels, gradient step of
    0.1, smoothing of the update by 3 voxels, four levels.

    Parameters
    ----------
    fixed, moving, affine : str
        File names; the affine is an ITK transform, fixed to moving points.

    Returns
    -------
    list of str
        The field will be :data:`SYN_WARP`.

    Examples
    --------
    >>> words = syn_arguments("f.nii", "m.nii", "a.mat")
    >>> words[words.index("--metric") + 1]
    'CC[f.nii,m.nii,1,4]'
    """
    return [
        *("--dimensionality", "3", "--float", "1", "--random-seed", "1"),
        *("--initial-moving-transform", f"[{affine},0]"),
        *("--collapse-output-transforms", "1", "--output", "syn"),
        *("--winsorize-image-intensities", "[0.0,1.0]", "--use-histogram-matching", "1"),
        *("--transform", "SyN[0.1,3,0]", "--metric", f"CC[{fixed},{moving},1,4]"),
        *("--convergence", "[100x70x50x20,1e-06,10]"),
        *("--shrink-factors", "8x4x2x1", "--smoothing-sigmas", "3x2x1x0vox"),
    ]
