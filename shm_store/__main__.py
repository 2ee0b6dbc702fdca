"""`python -m shm_store`: the operator's command line."""

import sys

from shm_store.cli import main

sys.exit(main())
