"""Data sets, from their archives' layouts or a folder of pictures, to batches."""
