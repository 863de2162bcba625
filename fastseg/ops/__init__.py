"""The operators, one family a folder, each with the same rooms."""
