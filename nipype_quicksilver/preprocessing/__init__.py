"""What comes before a registration: brain extraction, affine alignment, templates.

Importing this package imports neither torch nor SimpleITK; running does.
"""
