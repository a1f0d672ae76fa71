"""What a tower's embeddings are made of: studies of embedded scenes, ours or a pretrained model's.

A study is a pure function of `EmbeddedScenes` (`dualenc.analysis.embedded`) and its options: it knows nothing of runs,
files or towers. `python -m dualenc.analyze` makes the embeddings, calls the study and writes what it found. Source of
the studies: "How can embedding models bind concepts?" (arXiv 2605.31503).

Importing this package imports no torch, so that a wrong option is refused in a moment.
"""
