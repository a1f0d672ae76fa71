"""Faults that a test plants in a process of a training, called in it before it begins (see `warm`)."""

import os
import signal
import time
from typing import Any


def signal_at(hook: str, name: str) -> None:
    """The process sends itself the signal `name` where the training first calls `hook`."""
    from dualenc.callbacks import CheckpointCallback
    from dualenc.data.datamodule import SceneDataModule
    from dualenc.module import DualEncoderModule

    owners: dict[str, Any] = {"configure_optimizers": DualEncoderModule, "train_dataloader": SceneDataModule}
    owner = owners.get(hook, CheckpointCallback)
    original = getattr(owner, hook)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        setattr(owner, hook, original)
        os.kill(os.getpid(), getattr(signal, name))
        return original(*args, **kwargs)

    setattr(owner, hook, wrapped)


def _after_step(act: Any, samples: int) -> None:
    from dualenc.callbacks import CheckpointCallback

    original = CheckpointCallback.after_step

    def after_step(self: Any, trainer: Any, module: Any, outputs: Any, batch: Any) -> None:
        original(self, trainer, module, outputs, batch)
        if module.samples >= samples:
            act()

    CheckpointCallback.after_step = after_step  # type: ignore[method-assign]


def hang_at(samples: int) -> None:
    """The main thread waits for ever after a step, as in a collective that never learns that the others are gone."""
    _after_step(lambda: time.sleep(10_000), samples)


def fail_at(samples: int) -> None:
    """This process alone meets an error that a user can mend."""
    from dualenc.errors import InputError

    def fail() -> None:
        raise InputError("shard 7 is damaged")

    _after_step(fail, samples)


def break_batches() -> None:
    """A defect of ours in whatever process makes the batches."""
    from dualenc.data import SymbolicSource

    def train_batch(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("broken on purpose")

    SymbolicSource.train_batch = train_batch  # type: ignore[method-assign,assignment]


def die_while_saving() -> None:
    """SIGKILL in the midst of the third checkpoint, when half of it is written."""
    from dualenc.callbacks import checkpoint

    original = checkpoint._save

    def save(content: Any, path: Any) -> None:
        original(content, path)
        if path.with_name("previous.ckpt").exists():
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint._save = save


def leave_it_to_a_child() -> None:
    """Goes on in a child; the process itself only waits for it, as a launcher does."""
    if child := os.fork():
        os.waitpid(child, 0)
        os._exit(0)


def never_look_for_checkpoints() -> None:
    """This process would find another checkpoint than process 0, if it looked for one."""
    from dualenc import training

    def refuse(folder: Any) -> None:
        raise AssertionError("process 0 alone chooses the checkpoint")

    training.newest_checkpoint = refuse  # type: ignore[assignment]
