"""The two things that all parts share: one lock around moto, and a number that changes with it.

moto's check-then-act is not safe with threads, so it gets one call at a time: this makes S3's
conditional writes atomic here. `revision` changes whenever the certificates or the load balancers
may have changed.
"""

import threading

lock = threading.RLock()
revision = 0


def changed() -> None:
    global revision
    revision += 1
