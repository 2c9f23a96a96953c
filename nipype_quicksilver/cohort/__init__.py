"""Registrations of many images: what there is to do, what is done, and how it is run."""
