"""`signal_at.py HOOK SIGNAL ARGS`: runs `dualenc.fit ARGS` and sends itself SIGNAL where the training calls HOOK."""

import os
import signal

from dualenc import fit
from dualenc.errors import run_cli


def main(argv: list[str]) -> int:
    hook, name, *arguments = argv
    from dualenc.callbacks import CheckpointCallback
    from dualenc.data.datamodule import SceneDataModule
    from dualenc.module import DualEncoderModule

    owners = {"configure_optimizers": DualEncoderModule, "train_dataloader": SceneDataModule}
    owner = owners.get(hook, CheckpointCallback)
    original = getattr(owner, hook)

    def wrapped(*args, **kwargs):
        setattr(owner, hook, original)
        os.kill(os.getpid(), getattr(signal, name))
        return original(*args, **kwargs)

    setattr(owner, hook, wrapped)
    return fit.main(arguments)


run_cli(main)
