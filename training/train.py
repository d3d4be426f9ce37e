"""Train a dual-plane pose model.

    accelerate launch training/train.py --config training/configs/demo.yaml --dataset OUT --output_dir RUN
    torchrun --nproc_per_node 2 training/train.py --config training/configs/demo.yaml --dataset OUT --output_dir RUN

OUT is a folder that `veriserum convert` made, or a data set on the hub. Every setting of the YAML file can be given
here too, and then counts; --help lists them. In the end RUN holds the best checkpoint with its configuration, which
`VeriserumPoseModel.from_pretrained(RUN)` loads; the last one, in last; training.yaml, from which the run can be
repeated; and metrics.json. There waiting_share is time of the host alone: the share of training in which it waited
for a batch to be handed over, whatever a GPU still had to do.

Exit status: 0 done, 2 not done.
"""

import json
import math
import shutil
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import veriserum_hf.training  # noqa: F401 - first: it says what to install where torch is missing

# isort: split
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import (
    DataLoaderConfiguration,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    ProjectConfiguration,
    broadcast,
    gather_object,
)
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from veriserum_hf.dataset import data_record, load_meshes
from veriserum_hf.errors import TrainingError, VeriserumError
from veriserum_hf.evaluation import overall, pose_errors, sample_points
from veriserum_hf.hub import VERSION, prepare_repository, push_model
from veriserum_hf.inference import check_fit, predict_labelled
from veriserum_hf.modeling import VeriserumImageProcessor, VeriserumPoseModel
from veriserum_hf.training import (
    CHECKPOINTS,
    TrainingSettings,
    averaged,
    latest_checkpoint,
    load_anatomies,
    load_checkpoint,
    make_model,
    model_inputs,
    parameter_groups,
    parse_settings,
    save_checkpoint,
    seed_step,
    training_batches,
    validation_loader,
)

LOG_STEPS = 10
SHOWN = ("rotation_deg", "translation_mm", "mtre_mm")
CRITERION = "mtre_mm"  # the best checkpoint has the least median of it on the validation split


def train(settings: TrainingSettings, accelerator: Accelerator) -> None:
    """Go from data to the best checkpoint."""
    folder, optimization = Path(settings.run.output_dir), settings.optimization
    main = accelerator.is_main_process

    # Data and model. The main process goes first: the others then find everything in the cache.
    torch.manual_seed(optimization.seed)
    with accelerator.main_process_first():
        data = data_record(settings.data.dataset)
        anatomies = load_anatomies(settings.data)
        batches = training_batches(settings.data, optimization, accelerator)
        validation = validation_loader(settings.data, optimization.batch_size)
        model = make_model(
            settings.model, anatomies, batches.image_size, gradient_checkpointing=optimization.gradient_checkpointing
        )
        if validation:
            check_fit(model, validation.dataset.rows, load_meshes(str(settings.data.dataset)))
    model = model.to(accelerator.device, memory_format=torch.channels_last)  # convolutions are faster so
    average = averaged(model, optimization.ema_decay) if optimization.ema_decay else None
    published: VeriserumPoseModel = average.module if average else model

    # How long, and where an interrupted run goes on.
    epoch, accumulated = batches.batches_per_epoch or 0, optimization.gradient_accumulation_steps
    per_epoch = math.ceil(epoch / accumulated)
    steps = optimization.max_train_steps or math.ceil(optimization.num_train_epochs * epoch / accumulated)
    if not steps:
        raise TrainingError("these data have no end: say how long to train with --max_train_steps")
    groups = parameter_groups(model, optimization.learning_rate, optimization.weight_decay, optimization.layer_decay)
    optimizer = torch.optim.AdamW(groups)
    step, position, best = 0, (0, 0), None
    kept = settings.that_must_stay() | {
        "steps": steps,
        "processes": accelerator.num_processes,
        "batches_per_epoch": batches.batches_per_epoch,
        "data_revision": data and data["revision"],
    }
    if not settings.run.resume_from_checkpoint and any((folder / CHECKPOINTS).glob("step_*")):
        raise TrainingError(
            f"{folder} holds checkpoints of a run already: go on with it with --resume_from_checkpoint latest, or "
            "choose another --output_dir"
        )
    if not settings.run.resume_from_checkpoint and (folder / "model.safetensors").exists():
        raise TrainingError(
            f"{folder} holds a model already, and what was measured of it: choose another --output_dir, or remove it"
        )
    if settings.run.resume_from_checkpoint:
        name = settings.run.resume_from_checkpoint
        checkpoint = latest_checkpoint(folder) if name == "latest" else Path(name)
        state = load_checkpoint(checkpoint, model, average, optimizer, kept)
        step, position, best = state["step"], state["positions"][accelerator.process_index], state["best"]
        if not (folder / "model.safetensors").is_file():
            best = None  # of the folder that the checkpoint comes from; this one needs a model of its own
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
        accelerator.print(f"resuming from {checkpoint}, step {step}", file=sys.stderr)
    schedule = get_cosine_schedule_with_warmup(optimizer, optimization.warmup_steps, steps, last_epoch=step - 1)
    trained, optimizer, validation = accelerator.prepare(model, optimizer, validation)
    if main:
        if settings.run.push_to_hub and not settings.run.resume_from_checkpoint:
            prepare_repository(str(settings.run.hub_model_id), repo_type="model", version=VERSION)
        folder.mkdir(parents=True, exist_ok=True)
        repeated = settings.as_flat() | {"resume_from_checkpoint": None}
        (folder / "training.yaml").write_text(yaml.safe_dump(repeated, sort_keys=False))
    if settings.run.with_tracking:
        accelerator.init_trackers("veriserum", {name: str(value) for name, value in settings.as_flat().items()})

    points_mm = sample_points({row["anatomy_id"]: row["mesh"] for row in anatomies})
    source = batches.start_at(*position)
    progress = tqdm(total=steps, initial=step, desc="training", unit="step", disable=not main)
    began, first_step, waiting_s, evaluating_s = time.perf_counter(), step, 0.0, 0.0
    trained.train()
    while step < steps:
        for number in range(optimization.gradient_accumulation_steps):
            asked = time.perf_counter()
            batch = next(source)
            waiting_s += time.perf_counter() - asked
            # Only now: a loader that begins an epoch, or goes on in one, draws random numbers too.
            drawn = step * optimization.gradient_accumulation_steps + number
            seed_step(optimization.seed, drawn, accelerator.process_index)
            with accelerator.accumulate(trained):
                with accelerator.autocast():
                    output = trained(**model_inputs(batch))
                if not torch.isfinite(output.loss):
                    raise TrainingError(not_finite("the loss", folder, step, batch, output.losses))
                accelerator.backward(output.loss)
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(trained.parameters(), optimization.max_grad_norm)
                    # Before it gets into weights that are kept; in fp16 the scaler leaves such a step out.
                    if accelerator.scaler is None and not torch.isfinite(norm):
                        raise TrainingError(not_finite("the gradient", folder, step, batch, output.losses))
                optimizer.step()
                optimizer.zero_grad()
        schedule.step()
        step += 1
        if average:
            average.update_parameters(model)
        progress.update()
        if step % LOG_STEPS == 0 or step == steps:
            losses = {name: float(value.detach()) for name, value in output.losses.items()}
            progress.set_postfix({name: f"{losses[name]:.3g}" for name in ("loss", "rotation_deg", "point_mm")})
            accelerator.log({f"train/{name}": value for name, value in losses.items()}, step)
        if validation and (step % (settings.run.eval_steps or per_epoch or steps) == 0 or step == steps):
            asked = time.perf_counter()
            # Each process has seen other frames: their running means are those of the first, which is published.
            broadcast(list(published.buffers()))
            found = overall(pose_errors(predict_labelled(published, validation, accelerator), points_mm))
            medians = {name: found[name]["median"] for name in SHOWN}
            accelerator.log({f"validation/{name}": value for name, value in medians.items()}, step)
            if main:
                shown = ", ".join(f"{name} {value:.3g}" for name, value in medians.items())
                progress.write(f"step {step}: {shown}", file=sys.stderr)
            if best is None or found[CRITERION]["median"] < best[CRITERION]["median"]:
                best = {"step": step} | found
                publish(published, folder, accelerator)
            evaluating_s += time.perf_counter() - asked
        if settings.run.checkpointing_steps and step % settings.run.checkpointing_steps == 0:
            state = {"step": step, "positions": gather_object([batches.position]), "best": best, "settings": kept}
            state["scaler"] = accelerator.scaler and accelerator.scaler.state_dict()
            if main:
                save_checkpoint(folder / CHECKPOINTS / f"step_{step:06d}", model, average, optimizer, state)
            accelerator.wait_for_everyone()
    progress.close()

    training_s = time.perf_counter() - began - evaluating_s
    frames = (step - first_step) * accelerator.num_processes * settings.frames_per_step()
    speed = {
        "minutes": training_s / 60,
        "samples_per_s": frames / training_s,
        "waiting_share": waiting_s / training_s,
    }
    publish(published, folder / "last", accelerator)
    if best is None:  # without validation the last is the best that is known
        publish(published, folder, accelerator)
    if main:
        metrics = {"validation": best, "speed": speed, "data": data}
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
        if settings.run.push_to_hub:
            push(folder, str(settings.run.hub_model_id))
    accelerator.end_training()


def not_finite(what: str, folder: Path, step: int, batch: dict[str, Any], losses: dict[str, torch.Tensor]) -> str:
    """Say where a number was lost, and what is kept."""
    parts = ", ".join(name for name, value in losses.items() if not torch.isfinite(value) and name != "loss")
    checkpoints = sorted(path.name for path in (folder / CHECKPOINTS).glob("step_*"))
    best = (
        f"the best checkpoint so far in {folder}" if (folder / "config.json").exists() else "no best checkpoint yet"
    )
    return (
        f"{what} is not finite at step {step} ({parts or 'all losses are'}), measurements "
        f"{batch['measurement_id'].tolist()}. Kept: {best}, {checkpoints[-1] if checkpoints else 'no checkpoint'} to "
        "resume from. Look at those frames' poses, or start anew with a lower --learning_rate or --max_grad_norm"
    )


def publish(model: VeriserumPoseModel, folder: Path, accelerator: Accelerator) -> None:
    """Write what `from_pretrained` loads; a file is there whole or not at all."""
    if not accelerator.is_main_process:
        return
    partial = folder / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    VeriserumImageProcessor(size=model.config.image_size).save_pretrained(partial)
    # Weights first, and config.json, which says that there is a model, last.
    for path in sorted(partial.iterdir(), key=lambda path: (path.name == "config.json", path.suffix == ".json")):
        path.replace(folder / path.name)
    partial.rmdir()


def push(folder: Path, name: str) -> None:
    """Upload the best checkpoint with its code and card to a private repository; see `veriserum push-model`."""
    try:
        pushed = push_model(folder, name)
    except VeriserumError as error:
        raise TrainingError(
            f"{error} The run is complete in {folder}; push it with `veriserum push-model {folder} {name}`"
        ) from error
    print(f"pushed to {pushed.url}", file=sys.stderr)


def main() -> None:
    """Run the command line; what a user can mend is one message and exit status 2."""
    disable_progress_bar()  # of files that take no time to write
    set_verbosity_error()  # tables of a pretrained backbone's weights: those that matter are checked
    try:
        settings = parse_settings(sys.argv[1:])
        optimization = settings.optimization
        cpu = not torch.cuda.is_available()
        if cpu and optimization.mixed_precision == "fp16":
            raise TrainingError("mixed_precision fp16 needs a GPU; use bf16, or no")
        accelerator = Accelerator(
            cpu=cpu,  # unless it is told, accelerate takes processes that torchrun starts without a GPU for strangers
            mixed_precision=optimization.mixed_precision,
            # An optimiser step may take its batches from two epochs.
            gradient_accumulation_plugin=GradientAccumulationPlugin(
                optimization.gradient_accumulation_steps, sync_with_dataloader=False
            ),
            dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=optimization.seed),
            log_with=settings.run.report_to if settings.run.with_tracking else None,
            project_config=ProjectConfiguration(settings.run.output_dir, f"{settings.run.output_dir}/tracking"),
            # The others wait while the main process downloads the data set.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=6))],
        )
        train(settings, accelerator)
    except VeriserumError as error:
        tqdm.write(f"error: {error}", file=sys.stderr)  # not into a line of progress
        sys.exit(2)


if __name__ == "__main__":
    main()
