"""A registration whose answer is known: a brain, shot along a random geodesic, and found again."""
