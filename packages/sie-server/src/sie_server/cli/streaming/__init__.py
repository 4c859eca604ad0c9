"""Commands that read a file line by line and write one: in order, in little memory, and resumable."""
