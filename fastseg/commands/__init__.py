"""The commands of `fastseg`, a file each: its arguments and what it does."""
