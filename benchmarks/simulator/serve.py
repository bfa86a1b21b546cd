# SPDX-License-Identifier: BSD-3-Clause
"""A master in this process until SIGTERM: `python -m simulator.serve DIR KEY=VALUE...`."""

import logging
import signal
import sys
import threading
from pathlib import Path

from piwheels_node.core.settings import Settings
from piwheels_node.master.service import Master

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
master = Master(Path(sys.argv[1]), Settings.from_sources(overrides=sys.argv[2:]))
master.start()
stop.wait()
master.stop()
