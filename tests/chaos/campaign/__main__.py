"""The command line of the campaigns."""

from __future__ import annotations

import argparse
import logging
import signal
import sys

import tests.chaos.campaign as campaigns
from tests.chaos.campaign.battle import Terms, campaign
from tests.chaos.campaign.routes import NAMES


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.campaign",
        description=campaigns.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("route", choices=NAMES)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument("--worker-kills", type=int, default=20)
    parser.add_argument("--freezes", type=int, default=5, help="workers stopped beyond their heartbeat, woken late")
    parser.add_argument("--broker-restarts", type=int, default=3, help="kill -9, and up with the same data")
    parser.add_argument("--temporal-restarts", type=int, default=3, help="kill -9, and up with the same data")
    parser.add_argument("--keep", action="store_true", help="keep the folder also where all is well")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # workers and servers go with us
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # brokers go and come: that is what this is about
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    return campaign(Terms(**vars(parser.parse_args())), lambda text: print(text, flush=True))


sys.exit(main())
