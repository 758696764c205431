"""Python reads this by itself where PYTHONPATH names its folder: tasks shared by processes then obey $HOLD."""

import sys

if "tiebreak.engine.multiprocess_worker" in sys.orig_argv:
    from paused_training import pause_after_saving

    pause_after_saving()
