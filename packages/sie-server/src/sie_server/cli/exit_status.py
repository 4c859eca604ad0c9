"""Exit statuses of the commands on files; 0: all is done."""

FAILED, BAD_INPUT, UNAVAILABLE, INTERRUPTED = 1, 2, 3, 130
