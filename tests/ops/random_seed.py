"""The seed of the operators' random inputs. Every run has a new one, unless a variable sets it."""

from __future__ import annotations

import os
import secrets

SEED_VARIABLE = "DETECTRON_EXT_TEST_SEED"
SEED = int(os.environ.get(SEED_VARIABLE) or secrets.randbelow(2**31))
