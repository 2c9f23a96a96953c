"""Registration of a brain to itself, deformed along a known random geodesic."""
