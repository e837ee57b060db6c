"""The test bed of derin.diagnose: runs made sick on purpose, each of a known cause, and healthy ones.

A case is a name, its cause (the verdict that should come first) and a function that trains it. Those of the set
"written" were there while the rules were written; those "held out" were kept from them until then, looked at once, and
the rules then mended where they had been wrong. "fresh" was written after that, and no rule was changed for it.
"unseen" was written by someone who had not read the rules, on other data; the rules were then mended on it as well.
"strangers" are such ones again, by a third hand, written after that; some rules were then mended on them too.
docs/diagnose.md has what each set said at first sight.
"""

import fresh  # noqa: F401 - each of these puts its cases into CASES
import healthy  # noqa: F401
import rows  # noqa: F401
import strangers  # noqa: F401
import strangers_rows  # noqa: F401
import strangers_units  # noqa: F401
import training  # noqa: F401
import units  # noqa: F401
import unseen  # noqa: F401
import unseen_rows  # noqa: F401
import unseen_units  # noqa: F401
from bed import CASES, HEALTHY, SETS, Case

__all__ = ["CASES", "HEALTHY", "SETS", "Case"]
