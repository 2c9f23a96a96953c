"""The former name of `python -m nipype_quicksilver`."""

import sys
import warnings

from nipype_quicksilver.cli.main import main

warnings.warn(
    "python -m nipype_quicksilver.cli is called python -m nipype_quicksilver since version 0.2; "
    "it goes with version 0.3",
    DeprecationWarning,
    stacklevel=1,
)
sys.exit(main())
