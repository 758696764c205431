"""Python reads this by itself where PYTHONPATH names its folder: tasks shared by processes then obey $HOLD."""

import sys

if "tiebreak.execute.rank" in sys.orig_argv:
    from hold import obey

    obey()
