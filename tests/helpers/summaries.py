"""Summaries of registrations that never ran."""


def summary_content():
    """Content of a ``summary.json``, complete but without optional parts; may be changed."""
    identity = [[float(i == j) for j in range(4)] for i in range(4)]
    grid = {"shape": [4, 4, 4], "spacing": [1.0, 1.0, 1.0], "affine": identity}
    names = ("fixed_mask", "moving_mask", "fixed_lesion_mask", "moving_lesion_mask")
    return {
        "versions": {"nipype-quicksilver": "0.1.0", "torch": "2.13.0", "SimpleITK": "2.5.0"},
        "inputs": {"fixed": "fixed.nii.gz", "moving": "moving.nii.gz", "affine": None},
        "parameters": {
            "method": "correct",
            "transform": "deformable",
            "networks": ["prediction.safetensors", "correction.safetensors"],
            "corrections": 1,
            "kernel": {"alpha": 0.225, "beta": 0.0, "gamma": 0.025, "power": 2.0},
            "steps": 3,
            "share_of_prediction": 1.0,
            "contrast_exchanged": None,
            "device": "cpu",
            "threads": {"torch": 1, "itk": 1},
            "seed": 0,
            "interpolation": "Linear",
        },
        "working_grid": grid,
        "velocity_grid": grid,
        "masks": {name: {"file": None, "used": False, "voxels": 0} for name in names},
        "similarity": {"measure": "local correlation", "before": 0.5, "after": 0.75},
        "energy": {"initial": 2.0, "path": [2.0, 2.0]},
        "stages": [],
        "jacobian": {
            "voxels": 64,
            "folded": 3,
            "folded_percent": 4.7,
            "minimum": -0.1,
            "log_jacobian": {"mean": 0.25, "sd": 0.5, "p1": -1.0, "p99": 1.0},
        },
        "inverse_consistency_mm": {"mean": 0.1, "p99": 0.2, "max": 0.3},
        "seconds": {"total": 8.0},
        "cpu_seconds": {},
        "preprocessing": {},
        "affine_matrix": identity,
        "magnification": 1.0,
        "options": {"method": "correct", "interpolation": "Linear", "iterations": [1, 2]},
        "sha256": {},
        "started": "2026-01-01T00:00:00+00:00",
        "warnings": [],
    }
