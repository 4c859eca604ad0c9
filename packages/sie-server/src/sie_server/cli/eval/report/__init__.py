"""`report.html`: the results as one page that needs nothing else."""
