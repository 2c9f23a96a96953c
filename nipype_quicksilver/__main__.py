"""`python -m nipype_quicksilver`: the `quicksilver` command of this interpreter."""

import sys

from nipype_quicksilver.cli.main import main

sys.exit(main())
