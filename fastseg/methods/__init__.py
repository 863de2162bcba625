"""The papers, a file each: configuration, loss, predictions."""
