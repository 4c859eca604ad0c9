"""What befalls a server in production, done to one on purpose: what was tried, how often, and what was lost.

    .venv/bin/python reliability/faults.py --json faults.json                    # every fault, a quarter of an hour
    .venv/bin/python reliability/faults.py --tries 1 --only killed half_sent     # some of them once

Under each fault clients rank all the time, and every answer is compared with the score of each pair alone. An error
that names what happened is no loss; a wrong score is, and so is a request that gets no answer. What can't be tried here
(no root, no libfaketime) is skipped, and the table says so.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from fault_device import dies, memory, raises, stalls
from fault_files import cut_download, disk_full, flipped, replaced
from fault_network import cut, half_sent, unread
from fault_process import jumped, killed, stopped
from fault_report import COLUMNS, FaultReport, table
from instance import end_cleanly
from rich.console import Console

# How often each is tried by default.
FAULTS: dict[str, tuple[Callable[[int], FaultReport], int]] = {
    "killed": (killed, 10),
    "stopped": (stopped, 10),
    "jumped": (jumped, 4),
    "raises": (raises, 20),
    "memory": (memory, 10),
    "dies": (dies, 3),
    "stalls": (stalls, 2),
    "disk_full": (disk_full, 3),
    "cut_download": (cut_download, 3),
    "flipped": (flipped, 100),
    "replaced": (replaced, 20),
    "cut": (cut, 5),
    "unread": (unread, 5),
    "half_sent": (half_sent, 5),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--tries", type=int, default=0, help="of each fault; by default as many as each is worth")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    end_cleanly()

    reports = {}
    console = Console(stderr=True)
    for name in arguments.only:
        inflict, tries = FAULTS[name]
        reports[name] = inflict(arguments.tries or tries)
        console.print(*reports[name].row, sep=" | ")
    print(table(COLUMNS, (report.row for report in reports.values())))
    if arguments.json:
        figures = {name: report.figures for name, report in reports.items()}
        arguments.json.write_text(json.dumps(figures, indent=2))
    return int(not all(report.passed for report in reports.values()))


if __name__ == "__main__":
    sys.exit(main())
