"""Steps before a registration: brain extraction, affine alignment, templates.

Importing this package does not import torch or SimpleITK.
"""
