"""This machine: its cores, its memory, and its allocator."""
