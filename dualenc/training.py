"""Trains a resolved config on opened data into a run folder, and finishes the folder. Imported after all checks."""

import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.plugins import environments
from pytorch_lightning.strategies import DDPStrategy

from dualenc import configs
from dualenc.build import ModelSpec, build_model, build_source, describe_data, model_spec
from dualenc.callbacks import (
    AtomicCheckpointIO,
    BindingCallback,
    CheckpointCallback,
    CoverageCallback,
    GeometryCallback,
    LogCallback,
    SpectrumCallback,
    ThroughputCallback,
    ValPairs,
)
from dualenc.config import Config, TrainerConfig
from dualenc.data import Dataset, Source
from dualenc.data.datamodule import SceneDataModule
from dualenc.errors import InputError, ProcessLost
from dualenc.evaluation import EMBEDDED, Evaluator, all_metrics, make_evaluator
from dualenc.examples import write_examples
from dualenc.files import read_json, write_json
from dualenc.hardware import accelerator_of, device_of, set_up_torch
from dualenc.launch import under_srun, under_torchrun
from dualenc.metrics import BIN_EDGES, cosine_histograms, spectra
from dualenc.models import DualEncoder, explain_cut_cache
from dualenc.module import DualEncoderModule
from dualenc.precision import precision_plugins
from dualenc.processes import kill_children
from dualenc.provenance import commit
from dualenc.run import RunFolder
from dualenc.scenes import SceneSampler
from dualenc.signals import StopFlag
from dualenc.sync import LiveWandb
from dualenc.watch import Watch
from dualenc.weights import BEST, FINAL, model_weights, newest_checkpoint, read_weights, save_weights


def train(
    config: Config, data: Dataset | SceneSampler, run: RunFolder, *, rank: int, stop: StopFlag, watch: Watch
) -> bool:
    """Trains until `max_samples` or until a signal; True when complete. Process 0 then finishes the run folder.

    Continues from the newest readable checkpoint. Every process of a distributed run calls this.
    """
    set_up_torch(config)
    source = build_source(config, data)
    spec = model_spec(config, source)
    torch.manual_seed(config.run.seed)
    model = build_model(spec)
    if config.trainer.precision == "64-true":
        model.double()  # before a checkpoint is loaded: Lightning would cast what had been rounded to float32
    with _live_wandb(config, run, rank) as live:
        callbacks, binding = _callbacks(config, source, model, run, stop=stop, live=live)
        trainer = _trainer(config, run, callbacks)
        broadcast = _meet(trainer, config, watch)
        # Process 0 looks for the checkpoint, so that all continue from the same one.
        checkpoint, start = broadcast(_start(config, spec, run) if rank == 0 else None)
        if start < config.trainer.max_samples:
            with stop.during_training():
                samples = _fit(config, source, model, trainer, checkpoint)
                _part(watch)
            if samples < config.trainer.max_samples or stop.is_set:
                return False
            best = binding.best
        else:
            _part(watch)
            state = AtomicCheckpointIO().load_checkpoint(checkpoint)
            model.load_state_dict(model_weights(state))
            best = next((state for name, state in state["callbacks"].items() if "BindingCallback" in name), {})
        if rank == 0:
            model.to(device_of(config))  # Lightning leaves it on the CPU
            finish(config, source, spec, model, run, best=best)
            if live is not None:
                live.log_examples()
    return True


def _start(config: Config, spec: ModelSpec, run: RunFolder) -> tuple[Path | None, int]:
    """The checkpoint to continue from and its number of samples; cuts the log back to it and notes the new segment."""
    found = newest_checkpoint(run.checkpoints)
    if found and not (isinstance(found[1], dict) and found[1].get("run") == run.hash):
        raise InputError(f"{found[0]}: is no checkpoint of the run {run.hash}; move it away, or put the run's own back")
    checkpoint, start = (found[0], found[1]["samples"]) if found else (None, 0)
    write_json(run.path / "model.json", spec.to_dict())
    run.metrics.cut_back(start)
    run.add_segment(_segment(config, start))
    origin = f" (from {checkpoint.name})" if checkpoint else ""
    print(f"run {run.path}: starts at {start:,} of {config.trainer.max_samples:,} samples{origin}", file=sys.stderr)
    return checkpoint, start


def _meet(trainer: pl.Trainer, config: Config, watch: Watch) -> Callable[[Any], Any]:
    """Brings the processes together, and under the watch; how process 0 tells the others something."""
    strategy = trainer.strategy
    if config.trainer.devices * config.trainer.nodes == 1:
        return lambda told: told
    assert isinstance(strategy, DDPStrategy)
    assert strategy.cluster_environment is not None
    strategy.setup_environment()
    watch.connect(strategy.world_size, address=strategy.cluster_environment.main_address, broadcast=strategy.broadcast)
    return strategy.broadcast


def _part(watch: Watch) -> None:
    """Ends the process group once all processes are done with it; process 0 may have long work to do afterwards."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
    watch.leave()


def _fit(config: Config, source: Source, model: DualEncoder, trainer: pl.Trainer, checkpoint: Path | None) -> int:
    """Runs Lightning; the number of samples afterwards."""
    settings = config.trainer
    model.set_activation_checkpointing(settings.activation_checkpointing)
    module = DualEncoderModule(
        model,
        loss=config.loss,
        optim=config.optim,
        seed=config.run.seed,
        batch_size=settings.batch_size,
        max_samples=settings.max_samples,
        chunks=settings.chunks,
        share_identical=settings.share_identical,
        compile=settings.compile,
    )
    datamodule = SceneDataModule(
        source,
        batch_size=settings.batch_size,
        max_samples=settings.max_samples,
        num_workers=config.data.num_workers,
    )
    # Lightning's own handlers save inside the handler and do collectives there, which can hang: ours alone act.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    except BaseException as error:
        kill_children()  # the error's traceback keeps the loader, and so its workers, alive
        explain_cut_cache(error)
        if str(error).startswith("DataLoader worker"):  # torch's RuntimeError for one that was killed
            raise ProcessLost(
                f"{str(error).rstrip('. ')}; where memory is short, lower data.num_workers; run the same command "
                "again, which continues from the newest checkpoint"
            ) from None
        raise
    return module.samples


def _callbacks(
    config: Config, source: Source, model: DualEncoder, run: RunFolder, *, stop: StopFlag, live: LiveWandb | None
) -> tuple[list[pl.Callback], BindingCallback]:
    """The callbacks in the order of law 7 (measure, log, checkpoint), and the one among them that selects weights."""
    record: dict[str, Any] = {}
    every, validation = config.logging.every, {"every": config.eval.every}

    def evaluator() -> Evaluator:
        return make_evaluator(config, model, source)

    binding = BindingCallback(
        record, make_evaluator=evaluator, run=run, num_scenes=config.eval.num_scenes, **validation
    )
    embedded: list[pl.Callback] = []
    if source.num_samples("val") > 1:
        pairs = ValPairs(evaluator, config.eval.num_scenes)
        kinds = (SpectrumCallback, GeometryCallback)
        embedded = [kind(record, pairs=pairs, **validation) for kind in kinds]
    log = LogCallback(
        record, lines=run.metrics, every=every, progress=config.logging.progress, live=live.log if live else None
    )
    coverage = CoverageCallback(record, split=source.split, max_objects=source.max_objects, every=every)
    throughput = ThroughputCallback(record, every=every)
    checkpoint = CheckpointCallback(record, run=run, seconds=config.trainer.checkpoint_seconds, stop=stop)
    return [throughput, coverage, binding, *embedded, log, checkpoint, throughput.last], binding


def _trainer(config: Config, run: RunFolder, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning for the loop, devices and precision; validation, logs and checkpoints are our callbacks' work."""
    settings = config.trainer
    precision = precision_plugins(settings.precision, device_of(config))
    return pl.Trainer(
        accelerator=accelerator_of(config),
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy=ddp_strategy(settings) if settings.devices * settings.nodes > 1 else "auto",
        max_epochs=-1,
        max_steps=settings.max_samples // settings.batch_size,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[AtomicCheckpointIO(), _cluster_environment(), *precision],
        callbacks=callbacks,
        default_root_dir=run.path,
    )


def _cluster_environment() -> environments.ClusterEnvironment:
    """Where Lightning finds ranks and addresses; by itself it takes Slurm's for every process of a Slurm job."""
    if under_torchrun():
        return environments.TorchElasticEnvironment()
    if under_srun():
        return environments.SLURMEnvironment(auto_requeue=False)
    return environments.LightningEnvironment()


def ddp_strategy(trainer: TrainerConfig) -> DDPStrategy:
    """How processes share gradients.

    With several chunks most backward passes add to gradients that wait for the last: then iterations are no static
    graph, and gradients are no views of what DDP sends.
    """
    plain = trainer.chunks == 1
    return DDPStrategy(timeout=timedelta(seconds=trainer.timeout), static_graph=plain, gradient_as_bucket_view=plain)


@contextmanager
def _live_wandb(config: Config, run: RunFolder, rank: int) -> Iterator[LiveWandb | None]:
    """The live wandb run of `logging.wandb: online`, in process 0; it ends with the summary where there is one."""
    if config.logging.wandb != "online" or rank:
        yield None
        return
    live = LiveWandb(run.path, configs.plain_dict(config), run_id=run.hash, project=config.logging.project)
    try:
        yield live
    finally:
        live.finish(read_json(run.summary)["metrics"] if run.summary.exists() else {})


def finish(
    config: Config, source: Source, spec: ModelSpec, model: DualEncoder, run: RunFolder, *, best: dict[str, Any]
) -> None:
    """Final weights, metrics of the last and of the best weights on all scenes, examples; the summary comes last."""
    save_weights(run.path / FINAL, model, samples=config.trainer.max_samples)
    evaluator = make_evaluator(config, model, source)
    results = evaluator.all_splits(num_worst=config.eval.worst_scenes)
    if source.num_samples("val") > 1:
        write_embeddings(run.path, evaluator)
    write_examples(run.path, source, results)
    summary = {
        "name": config.run.name,
        "hash": run.hash,
        "samples": config.trainer.max_samples,
        "steps": config.trainer.max_samples // config.trainer.batch_size,
        "metrics": {**_last_coverage(run), **(last := all_metrics(evaluator, results))},
        "best": _best(config, source, spec, model, run, best, last),
        "dataset": describe_data(source),
        "num_parameters": model.num_parameters(),
        "command": command_line(),
    }
    run.write_summary(summary)


def _best(
    config: Config,
    source: Source,
    spec: ModelSpec,
    model: DualEncoder,
    run: RunFolder,
    best: dict[str, Any],
    last: dict[str, float | None],
) -> dict[str, Any]:
    """Metrics of the weights that were best on val_ood; those of the last weights where these are the best."""
    path = run.checkpoints / BEST
    if not best or best["samples"] == config.trainer.max_samples or not path.exists():
        return {"samples": config.trainer.max_samples, "metrics": last}
    chosen = build_model(spec).to(next(model.parameters()))
    chosen.load_state_dict(read_weights(path)[0])
    evaluator = make_evaluator(config, chosen, source)
    return {"samples": best["samples"], "metrics": all_metrics(evaluator, evaluator.all_splits())}


def _last_coverage(run: RunFolder) -> dict[str, Any]:
    rows = [row for row in run.metrics.read() if "coverage/objects_seen" in row]
    return {name: value for name, value in rows[-1].items() if name.startswith("coverage/")} if rows else {}


def write_embeddings(folder: Path, evaluator: Evaluator) -> None:
    """Spectra and cosine histograms of val scenes and their queries, as embeddings.json."""
    pairs = evaluator.pairs("val", num_scenes=EMBEDDED)
    values = spectra(pairs.scenes, pairs.queries)
    histograms = cosine_histograms(pairs.scenes, pairs.queries, pairs.true, undecided=pairs.undecided)
    described = {
        "num_scenes": len(pairs.scenes),
        "singular_values": {name: value.tolist() for name, value in values.items()},
        "bin_edges": BIN_EDGES.tolist(),
        "cosines": {kind: shares.tolist() for kind, shares in histograms.items()},
    }
    write_json(folder / "embeddings.json", described, indent=None)


def command_line() -> str:
    """The command that makes this run."""
    return shlex.join(["python", "-m", "dualenc.fit", *sys.argv[1:]])


def _segment(config: Config, start: int) -> dict[str, Any]:
    packages = ("torch", "pytorch-lightning", "numpy", "dualenc")
    return {
        "start_samples": start,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": platform.node(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "commit": commit(),
        "threads": config.trainer.threads,
        "accelerator": accelerator_of(config),
        "devices": config.trainer.devices,
        "nodes": config.trainer.nodes,
    }
