"""A training from its data to its best checkpoint."""

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object
from torch import Tensor
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from veriserum_hf.dataset import StoredFrames, conversion_identity, data_record, open_rows
from veriserum_hf.errors import TrainingError
from veriserum_hf.evaluation import Metric, overall, pose_errors, sample_points
from veriserum_hf.hub import MODEL_VERSION, prepare_repository
from veriserum_hf.inference import fit_to, predict_labelled
from veriserum_hf.jobs import write_file
from veriserum_hf.modeling import VeriserumPoseModel
from veriserum_hf.training.batches import Batch, model_inputs
from veriserum_hf.training.checkpoints import (
    CHECKPOINTS,
    RunState,
    check_unused,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
    seed_step,
)
from veriserum_hf.training.divergence import not_finite
from veriserum_hf.training.loaders import batches_of, training_batches, trials_trained_on, validation_samples
from veriserum_hf.training.model import fine_tuned, load_anatomies, make_model
from veriserum_hf.training.optimization import averaged, parameter_groups
from veriserum_hf.training.publishing import push_run, save_model
from veriserum_hf.training.settings import TrainingSettings
from veriserum_hf.training.trust import TrustReport, add_trust

_LOG_STEPS = 10
_LOGGED_ERRORS: tuple[Metric, ...] = ("rotation_deg", "translation_mm", "mtre_mm")
_SELECTION_ERROR: Metric = "mtre_mm"  # the best checkpoint has the lowest median of it on the validation split

_logger = logging.getLogger(__name__)


class TrainingRun:
    """One process of a training; `run` does all of it, from `prepare` to `finish`.

    Data are loaded and the model is made at once; nothing is written before `prepare`.

    Parameters
    ----------
    settings : of the run.
    accelerator : of this process, with the settings' precision and gradient accumulation.

    Attributes
    ----------
    steps_done, total_steps : optimiser steps.
    published : the model that is evaluated and saved: the average of weights, or the trained model without one.
    best : step and validation errors of the best checkpoint; None before the first evaluation.

    Raises
    ------
    TrainingError
        If the data cannot be used, the model cannot be made, or nothing limits the number of steps.

    """

    def __init__(self, settings: TrainingSettings, accelerator: Accelerator) -> None:
        own, size = fine_tuned(settings.model)
        self.settings, self.accelerator = replace(settings, model=own), accelerator
        self.folder = Path(settings.run.output_dir)
        optimization = settings.optimization
        torch.manual_seed(optimization.seed)
        # The main process goes first: the others then find everything in the cache.
        with accelerator.main_process_first():
            self.data = data_record(settings.data.dataset)
            anatomies = load_anatomies(settings.data, own.implants)
            self.batches = training_batches(settings.data, optimization, accelerator, size)
            validation = validation_samples(settings.data, self.batches.image_size)
            model = make_model(
                own,
                anatomies,
                self.batches.image_size,
                gradient_checkpointing=optimization.gradient_checkpointing,
            )
            model.config.training_data = trials_trained_on(settings.data)  # type: ignore[assignment] # as JSON
            if validation is not None:
                shown = open_rows(str(settings.data.dataset), "anatomies")
                fit_to(model, StoredFrames(validation.rows), shown)
                self._points_implant_mm = sample_points(shown.meshes)
        self._validation: Iterable[Batch] | None = None
        if validation is not None:
            workers, prefetched = settings.data.num_workers, settings.data.prefetch_factor
            self._validation = batches_of(
                validation, optimization.batch_size, workers, accelerator.device, prefetch_factor=prefetched
            )
        # Convolutions are faster with channels last.
        self.model = model.to(accelerator.device, memory_format=torch.channels_last)
        self._average = averaged(self.model, optimization.ema_decay) if optimization.ema_decay else None
        published = self.model if self._average is None else self._average.module
        self.published: VeriserumPoseModel = published  # type: ignore[assignment] # a module, as the average has it
        self.total_steps = optimization.total_steps(self.batches.batches_per_epoch)
        self._evaluation_steps = settings.run.eval_steps or optimization.steps_of(self.batches.batches_per_epoch)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(
                self.model, optimization.learning_rate, optimization.weight_decay, optimization.layer_decay
            )
        )
        self.steps_done = 0
        self.best: dict[str, Any] | None = None
        self._position = (0, 0)  # of the batches
        self._waiting_s = self._evaluating_s = 0.0

    def run(self) -> None:
        """Train, evaluate and write all results of the run."""
        self.prepare()
        began, first_step = time.perf_counter(), self.steps_done
        main = self.accelerator.is_main_process
        with tqdm(
            total=self.total_steps, initial=first_step, desc="training", unit="step", disable=not main
        ) as progress:
            while self.steps_done < self.total_steps:
                losses = self.step()
                progress.update()
                if self._is_due(_LOG_STEPS, at_end=True):
                    self._log(losses, progress)
                if self._is_due(self._evaluation_steps, at_end=True):
                    self.evaluate()
                if self._is_due(self.settings.run.checkpointing_steps):
                    self.checkpoint()
        self.finish(time.perf_counter() - began, self.steps_done - first_step)

    def prepare(self) -> None:
        """Check the folder, restore a checkpoint where one is named, and write the settings.

        Raises
        ------
        TrainingError
            If the folder holds another run, there is no such checkpoint, or it is one of other settings.
        HubError
            If the run is to be pushed and the repository cannot be made.

        """
        settings, run = self.settings, self.settings.run
        if run.resume_from_checkpoint:
            self._resume(run.resume_from_checkpoint)
        else:
            check_unused(self.folder)
        self._schedule = get_cosine_schedule_with_warmup(
            self.optimizer, settings.optimization.warmup_steps, self.total_steps, last_epoch=self.steps_done - 1
        )
        self._trained, self.optimizer, self._validation = self.accelerator.prepare(
            self.model, self.optimizer, self._validation
        )
        if self.accelerator.is_main_process:
            if self._validation is None:
                _logger.warning("%s", _without_validation(settings.data.dataset, self.folder))
            if run.push_to_hub and not run.resume_from_checkpoint:
                prepare_repository(str(run.hub_model_id), repo_type="model", version=MODEL_VERSION)
            self.folder.mkdir(parents=True, exist_ok=True)
            settings.save(self.folder / "training.yaml")
        if run.with_tracking:
            self.accelerator.init_trackers(
                "veriserum", {name: str(value) for name, value in settings.as_flat().items()}
            )
        self._source = self.batches.start_at(*self._position)
        self._trained.train()

    def step(self) -> dict[str, Tensor]:
        """Do one optimiser step; returns the losses of its last batch.

        Raises
        ------
        TrainingError
            If the loss or the gradient is not finite.

        """
        accumulated, seed = self.settings.optimization.gradient_accumulation_steps, self.settings.optimization.seed
        for number in range(accumulated):
            began = time.perf_counter()
            batch = next(self._source)
            self._waiting_s += time.perf_counter() - began
            # Only now: a loader that begins or resumes an epoch draws random numbers too.
            seed_step(seed, self.steps_done * accumulated + number, self.accelerator.process_index)
            losses = self._accumulate(batch)
        self._schedule.step()
        self.steps_done += 1
        if self._average is not None:
            self._average.update_parameters(self.model)
        return losses

    def evaluate(self) -> None:
        """Measure the published model, where there is a validation split; save it if it is the best so far."""
        if self._validation is None:
            return
        began = time.perf_counter()
        # Each process has seen other frames: their running means are those of the first, which is published.
        broadcast(list(self.published.buffers()))
        estimates = predict_labelled(self.published, self._validation, self.accelerator)
        found = overall(pose_errors(estimates, self._points_implant_mm))
        medians = {name: found[name]["median"] for name in _LOGGED_ERRORS}
        self.accelerator.log({f"validation/{name}": value for name, value in medians.items()}, self.steps_done)
        if self.accelerator.is_main_process:
            shown = ", ".join(f"{name} {value:.3g}" for name, value in medians.items())
            _logger.info("step %d: %s (medians on validation)", self.steps_done, shown)
        if self.best is None or found[_SELECTION_ERROR]["median"] < self.best[_SELECTION_ERROR]["median"]:
            self.best = {"step": self.steps_done} | found
            self._save_model(self.folder)
        self._evaluating_s += time.perf_counter() - began

    def checkpoint(self) -> None:
        """Write a checkpoint to resume the run from here."""
        scaler = self.accelerator.scaler
        state: RunState = {
            "step": self.steps_done,
            "positions": gather_object([self.batches.position]),
            "best": self.best,
            "settings": self._resume_invariants(),
            "conversion": self._conversion(),
            "scaler": scaler and scaler.state_dict(),
        }
        if self.accelerator.is_main_process:
            folder = self.folder / CHECKPOINTS / f"step_{self.steps_done:06d}"
            save_checkpoint(folder, self.model, self._average, self.optimizer, state)
        self.accelerator.wait_for_everyone()

    def finish(self, elapsed_s: float, steps: int) -> None:
        """Write the last model and the metrics, and push the run.

        Parameters
        ----------
        elapsed_s : since the first step of this process, evaluations included.
        steps : that this process has done, fewer than all where the run was resumed.

        """
        training_s = elapsed_s - self._evaluating_s
        speed = {
            "minutes": training_s / 60,
            "samples_per_s": steps * self.accelerator.num_processes * self.settings.frames_per_step() / training_s,
            "waiting_share": self._waiting_s / training_s,
        }
        # Without validation the last is the best that is known.
        folders = [self.folder / "last", *([self.folder] if self.best is None else [])]
        self._save_models(folders)
        worlds = self._fit_trust()
        if worlds:
            self._save_models(folders)
        if self.accelerator.is_main_process:
            metrics = {"validation": self.best, "speed": speed, "data": self.data} | worlds
            write_file(self.folder / "metrics.json", json.dumps(metrics, indent=1))
            if self.settings.run.push_to_hub:
                push_run(self.folder, str(self.settings.run.hub_model_id))

    def _fit_trust(self) -> dict[str, TrustReport]:
        """Fit how far poses can be trusted, after a training on randomised worlds."""
        settings, ranges = self.settings, self.settings.data.world_ranges()
        frames = settings.run.trust_frames
        if ranges is None or not frames or settings.model.head == "pooled" or not self.accelerator.is_main_process:
            return {}
        return {"worlds": add_trust(self.published, ranges, frames=frames, workers=settings.data.num_workers)}

    def _is_due(self, interval: int | None, *, at_end: bool = False) -> bool:
        """After this step, something that is done every ``interval`` steps."""
        at_interval = bool(interval and self.steps_done % interval == 0)
        return at_interval or (at_end and self.steps_done == self.total_steps)

    def _resume_invariants(self) -> dict[str, object]:
        return self.settings.resume_invariants() | {
            "steps": self.total_steps,
            "processes": self.accelerator.num_processes,
            "batches_per_epoch": self.batches.batches_per_epoch,
            "data_revision": self.data and self.data["revision"],
        }

    def _conversion(self) -> dict[str, object]:
        return conversion_identity(self.settings.data.dataset, shards=self.settings.data.streaming)

    def _resume(self, name: str) -> None:
        checkpoint = latest_checkpoint(self.folder) if name == "latest" else Path(name)
        expected = self._resume_invariants()
        state = load_checkpoint(
            checkpoint, self.model, self._average, self.optimizer, expected, conversion=self._conversion()
        )
        self.steps_done, self.best = state["step"], state["best"]
        epoch, batches = state["positions"][self.accelerator.process_index]
        self._position = (epoch, batches)
        if not (self.folder / "model.safetensors").is_file():
            self.best = None  # of the folder that the checkpoint comes from; this one needs its own model
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.accelerator.is_main_process:
            _logger.info("resuming from %s, step %d", checkpoint, self.steps_done)

    def _accumulate(self, batch: Batch) -> dict[str, Tensor]:
        """Add a batch's gradient; the last batch of a step also changes the weights."""
        accelerator, optimization = self.accelerator, self.settings.optimization
        with accelerator.accumulate(self._trained):
            try:
                with accelerator.autocast():
                    output = self._trained(**model_inputs(batch))
            except ValueError as error:  # of frames of one plane, say
                id = int(batch["measurement_id"][0])
                raise TrainingError(f"the model refuses measurement {id}: {error}") from error
            losses: dict[str, Tensor] = output.losses
            if not torch.isfinite(output.loss):
                raise not_finite("the loss", self.folder, self.steps_done, batch, losses)
            accelerator.backward(output.loss)
            if accelerator.sync_gradients:
                norm = accelerator.clip_grad_norm_(self._trained.parameters(), optimization.max_grad_norm)
                # Before it gets into weights that are kept; in fp16 the scaler skips such a step.
                if accelerator.scaler is None and not torch.isfinite(norm):
                    raise not_finite("the gradient", self.folder, self.steps_done, batch, losses)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return losses

    def _log(self, losses: dict[str, Tensor], progress: tqdm) -> None:
        values = {name: float(value.detach()) for name, value in losses.items()}
        progress.set_postfix({name: f"{values[name]:.3g}" for name in ("loss", "rotation_deg", "point_mm")})
        self.accelerator.log({f"train/{name}": value for name, value in values.items()}, self.steps_done)

    def _save_models(self, folders: Iterable[Path]) -> None:
        for folder in folders:
            self._save_model(folder)

    def _save_model(self, folder: Path) -> None:
        if self.accelerator.is_main_process:
            save_model(self.published, folder)


def _without_validation(dataset: str | None, folder: Path) -> str:
    found = "there is no data set to validate on" if dataset is None else f"{dataset} has no validation split"
    return f"{found}: no checkpoint can be chosen by its errors, and {folder} will hold the last one as its best"
