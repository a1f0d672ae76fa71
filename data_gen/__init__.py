"""Scenes to pictures, captions and hard negatives, as WebDataset shards: `python -m data_gen CONFIG key=value ...`."""

GENERATOR_VERSION = "0.2.0"  # a change of it, or of FORMAT_VERSION, gives every dataset a new hash
FORMAT_VERSION = 1
