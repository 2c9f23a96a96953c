"""A registration whose truth is known: a brain, deformed along a random geodesic."""
