"""Run the program antsRegistration from the package antspyx, by ``python -m`` and its arguments."""

import sys

if __name__ == "__main__":
    from ants.internal import get_lib_fn

    sys.exit(get_lib_fn("antsRegistration")(sys.argv[1:]))
