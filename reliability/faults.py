"""Fault injection: what goes wrong in production, done to a server on purpose.

    .venv/bin/python reliability/faults.py --json faults.json                    # every fault, a quarter of an hour
    .venv/bin/python reliability/faults.py --tries 1 --only killed half_sent     # some of them once

During each fault, clients keep sending score requests, and every score is compared with that of the pair alone. Errors
that name what happened are permitted; wrong scores and requests without an answer are not. Faults that can't be
injected here (no root, no libfaketime) are listed as skipped.
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
from rich.console import Console

from sie_testing.serving import end_cleanly

# Faults with their default number of tries.
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
    parser.add_argument("--tries", type=int, default=0, help="of each fault; by default as in FAULTS")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
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
