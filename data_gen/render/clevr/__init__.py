"""The 3-D style: scenes of solids on a ground plane, cast as rays by kernels of NVIDIA Warp (see renderer.py)."""

DEVICE = "cpu"  # the one place that says where pictures are cast; see device.py
