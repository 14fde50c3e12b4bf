"""The training loop, for any network: steps, precision, averages, checkpoints, resuming.

A training run is determined by its seed: what happens in step n depends on the seed, n and the
weights alone, so a run that is killed and resumed ends with the weights of an uninterrupted one (on
the CPU bit by bit).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from data import weight_files
from data.errors import (
    DivergenceError,
    EigenshapeError,
    OutOfMemoryError,
    RunError,
    SettingError,
    is_out_of_memory,
)
from data.files import check_writable
from data.progress import Pace
from train import checkpoint
from train.distributed import World, average_batch_norm, named_end_of_others, unwrap_ddp, wrap_ddp
from train.history import History
from train.schedule import Schedule, set_rates
from train.signals import Interrupted, Termination

log = logging.getLogger(__name__)

Loss = Callable[[nn.Module, Any], Mapping[str, Tensor]]
Evaluate = Callable[[nn.Module], Mapping[str, float]]
Batches = Callable[[int], Iterator[Any]]


@dataclass(frozen=True)
class Settings:
    """How a training run proceeds, for any network.

    Attributes
    ----------
    out : folder of checkpoints, history and TensorBoard files
    steps : optimiser steps of the whole run
    seed : decides every random choice
    autocast : "none", "bf16" or "fp16" (fp16 scales the loss, on a GPU)
    accumulate : batches whose mean gradient makes one step
    clip_norm : largest 2-norm of all gradients together; None leaves them
    ema : decay per step of the exponential average of the weights; 0 keeps none
    channels_last, compile, sync_batchnorm, find_unused : how the network is laid out and wrapped
    save_every, evaluate_every, log_every : in steps; 0 means only at the end
    select : name of the evaluation figure whose largest value marks the best weights
    identity : what a resumed run must share with the first (see `checkpoint.load`)
    recipe : everything worth knowing later; kept in each checkpoint
    memory_advice : the settings that save memory, in the caller's words
    """

    out: Path
    steps: int
    seed: int = 0
    autocast: str = "none"
    accumulate: int = 1
    clip_norm: float | None = None
    ema: float = 0.0
    channels_last: bool = False
    compile: bool = False
    sync_batchnorm: bool = True
    find_unused: bool = False
    save_every: int = 0
    evaluate_every: int = 0
    log_every: int = 20
    select: str = ""
    identity: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    memory_advice: str = "a smaller batch with more accumulation, a smaller crop, or bf16 autocast"


class Training:
    """One training run: network, optimiser and everything that changes on the way.

    Parameters
    ----------
    model : nn.Module
        Trained in place.
    optimizer : over the model's parameters
    schedule : step -> factor of each group's rate
    loss : (model, batch) -> named terms; the one called "total" is minimised
    settings, world : see their classes
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        schedule: Schedule,
        loss: Loss,
        settings: Settings,
        world: World,
    ) -> None:
        if world.is_first:
            check_writable(settings.out)  # now, not after the first step
        if settings.channels_last:
            model = model.to(memory_format=torch.channels_last)
        self.settings, self.world = settings, world
        self.optimizer, self.schedule, self.loss = optimizer, schedule, loss
        wrapped = wrap_ddp(
            model,
            world,
            sync_batchnorm=settings.sync_batchnorm,
            find_unused=settings.find_unused,
        )
        self.model: nn.Module = unwrap_ddp(wrapped)
        self.compiled: Any = torch.compile(wrapped) if settings.compile else wrapped
        self.average = (
            AveragedModel(
                self.model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True
            )
            if settings.ema
            else None
        )
        scaled = settings.autocast == "fp16" and world.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=scaled)
        self.step, self.evaluated, self.best = 0, 0, -math.inf
        self.history = History(settings.out, enabled=world.is_first)
        self._pace = Pace(settings.steps)

    @property
    def eval_model(self) -> nn.Module:
        """The network that is evaluated and published: the average where there is one."""
        return self.model if self.average is None else self.average.get_submodule("module")

    def resume(self, path: str | Path) -> None:
        """Resume from a checkpoint of the same run.

        Raises
        ------
        WeightsError
            Unreadable, or of another run.
        """
        content = checkpoint.load(path, identity=self.settings.identity)
        self.model.load_state_dict(content["state_dict"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.scaler.load_state_dict(content["scaler"])
        self.step, self.best = content["step"], content["best"]
        self.evaluated = content.get("evaluated", self.step)
        self.history.cut(self.step)
        log.info("%s: resumed after step %d of %d", path, self.step, self.settings.steps)

    def run(self, batches: Batches, evaluate: Evaluate | None = None) -> None:
        """Train from the present step to the last.

        Parameters
        ----------
        batches : n -> iterator over the batches from number n on
        evaluate : network in evaluation mode -> figures; called by every process

        Raises
        ------
        DivergenceError, OutOfMemoryError
        RunError
            Another process of the run ended; or SIGTERM was received, and the run was saved.
        OSError
            The disk is full or the folder cannot be written; names the checkpoint that remains.
        """
        try:
            with Termination(self._farewell) as termination, named_end_of_others(self.world):
                self._run(batches, evaluate, termination)
        except RunError:
            self.history.close(draws=False)
            raise
        except OSError as error:
            self.history.close(draws=False)
            raise OSError(
                error.errno,
                f"training stopped after step {self.step}: {error.strerror or error}. Make room or "
                f"choose another folder; {self._kept()}",
            ) from error
        except BaseException:
            self.history.close()
            raise
        self.history.close()

    def _farewell(self) -> str:
        return f"SIGTERM: no time to finish a step and save it; {self._kept()}"

    def _kept(self) -> str:
        """What is left of a run that stops here, in words."""
        latest = self.settings.out / checkpoint.LATEST
        if not latest.is_file():
            return "no step was saved"
        return f"{latest} is intact, from an earlier step: the run can be resumed from it"

    def _run(self, batches: Batches, evaluate: Evaluate | None, termination: Termination) -> None:
        stream = batches(self.step * self.settings.accumulate)
        self._pace = Pace(self.settings.steps - self.step)
        if evaluate and self.evaluated < self.step and self._is_due(self.settings.evaluate_every):
            self._finish_step(evaluate, termination)  # the run was stopped before it had done so
        while self.step < self.settings.steps:
            self._take_step(stream)
            self._finish_step(evaluate, termination)
        if self.world.is_first:
            path = self.settings.out / checkpoint.FINAL
            weight_files.write_safetensors(path, self.eval_model.state_dict(), self._recipe())

    def _finish_step(self, evaluate: Evaluate | None, termination: Termination) -> None:
        evaluates = evaluate and self._is_due(self.settings.evaluate_every)
        saves = self._is_due(self.settings.save_every)
        stops = termination.agreed(self.world)
        if evaluates or saves or stops:
            for network in {self.model, self.eval_model}:
                average_batch_norm(network, self.world)
        try:
            if stops:
                raise Interrupted
            if evaluate and evaluates:
                self._evaluate(evaluate, termination)
        except Interrupted:
            self._stop_terminated()
        except EigenshapeError:  # of test images that are gone, for example; the steps are kept
            self.save()
            raise
        if saves:
            self.save()

    def _is_due(self, every: int) -> bool:
        return self.step == self.settings.steps or (self.step > 0 and _due(self.step, every))

    def _stop_terminated(self) -> NoReturn:
        self.save()
        raise RunError(
            f"SIGTERM: stopped after step {self.step} of {self.settings.steps}, which is saved in "
            f"{self.settings.out / checkpoint.LATEST}; resume the run from it"
        )

    def _take_step(self, stream: Iterator[Any]) -> None:
        self._seed_step()
        set_rates(self.optimizer, self.schedule(self.step))
        self.model.train()
        batches = [next(stream) for _ in range(self.settings.accumulate)]
        terms = self._read_terms(self._gradients(batches), batches)
        self._update()
        self.step += 1
        self._pace.done += 1
        self.history.add(self.step, {"lr": self.optimizer.param_groups[0]["lr"], **terms})
        if _due(self.step, self.settings.log_every) or self.step == self.settings.steps:
            self._log_progress(terms, sum(map(_length, batches)) * self.world.size)

    def _log_progress(self, terms: Mapping[str, float], images_per_step: int) -> None:
        if not self.world.is_first:
            return
        log.info(
            "step %d of %d: %s; %s; %.1f GiB of %s memory",
            *(self.step, self.settings.steps),
            ", ".join(f"{name} {value:.4g}" for name, value in terms.items()),
            self._pace.text(unit="images", per_step=images_per_step),
            *_memory(self.world.device),
        )

    def _seed_step(self) -> None:
        numbers = [self.settings.seed, self.step, self.world.rank]
        torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))

    def _gradients(self, batches: list[Any]) -> list[dict[str, Tensor]]:
        """Leave the mean gradient of the batches on the parameters.

        Returns the loss terms of each batch, still on the device: reading a value makes the CPU
        wait for the GPU.
        """
        n, terms = len(batches), []
        self.optimizer.zero_grad(set_to_none=True)
        for number, batch in enumerate(batches, start=1):
            hold_back = self.world.size > 1 and number < n
            try:
                with self.compiled.no_sync() if hold_back else nullcontext():
                    with self._autocast():
                        own = self.loss(self.compiled, _to(batch, self.world.device))
                    self.scaler.scale(own["total"] / n).backward()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                raise OutOfMemoryError(
                    f"{self.world.device}: not enough memory in step {self.step}. Try "
                    f"{self.settings.memory_advice}. ({str(error).splitlines()[0]})"
                ) from error
            terms.append({name: value.detach() for name, value in own.items()})
        return terms

    def _read_terms(self, terms: list[dict[str, Tensor]], batches: list[Any]) -> dict[str, float]:
        """Mean loss terms of this process, read at once; the only wait for the device in a step."""
        names = list(dict.fromkeys(name for own in terms for name in own))
        zero = torch.zeros((), device=self.world.device)
        table = torch.stack([own.get(name, zero).float() for own in terms for name in names])
        values = table.view(len(terms), len(names)).tolist()
        for row, batch in zip(values, batches, strict=True):
            if not math.isfinite(row[names.index("total")]):
                self._stop_diverged(dict(zip(names, row, strict=True)), batch)
        means = [sum(column) / len(terms) for column in zip(*values, strict=True)]
        return dict(zip(names, means, strict=True))

    def _autocast(self):
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        if self.settings.autocast == "none":
            return nullcontext()
        return torch.autocast(self.world.device.type, kinds[self.settings.autocast])

    def _stop_diverged(self, values: Mapping[str, float], batch: Any) -> NoReturn:
        path = self.settings.out / f"nonfinite_step_{self.step}_rank_{self.world.rank}.pt"
        checkpoint.save(path, {"step": self.step, "terms": dict(values), "batch": batch})
        raise DivergenceError(
            f"loss is not finite in step {self.step}: {dict(values)}. The batch is in {path}; "
            f"{self._kept()}. The usual remedies are a smaller learning rate, clipped gradients, "
            "or no fp16"
        )

    def _update(self) -> None:
        self.scaler.unscale_(self.optimizer)
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def _evaluate(self, evaluate: Evaluate, termination: Termination) -> None:
        evaluated = self.eval_model.eval()
        with torch.no_grad(), termination.at_once():
            figures = dict(evaluate(evaluated))
        self.evaluated = self.step
        self.history.add(self.step, figures)
        select = self.settings.select
        if select and select not in figures:
            raise SettingError(
                f"the figure {select!r} that chooses the best weights was not computed; there are "
                f"{', '.join(sorted(figures)) or 'none'}"
            )
        score = figures.get(select, -math.inf)
        if score > self.best:
            self.best = float(score)
            if self.world.is_first:
                recipe = {**self._recipe(), **figures}
                path = self.settings.out / checkpoint.BEST
                weight_files.write_safetensors(path, evaluated.state_dict(), recipe)
        if self.world.is_first:
            shown = ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
            log.info("after step %d: %s", self.step, shown)

    def _recipe(self) -> dict[str, Any]:
        """What is written beside weights: how they were trained, and for how long."""
        return {**self.settings.recipe, "trained_steps": self.step}

    def save(self) -> None:
        """Write the checkpoint that `resume` reads; only the first process does."""
        if not self.world.is_first:
            return
        content = {
            "step": self.step,
            "state_dict": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
            "evaluated": self.evaluated,
            "recipe": {**self.settings.recipe, **self.settings.identity},
        }
        if self.average is not None:
            content["average"] = self.average.state_dict()
        checkpoint.save(self.settings.out / checkpoint.LATEST, content)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _to(batch: Any, device: torch.device) -> Any:
    """`batch` with every tensor in it on `device`."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: _to(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(_to(value, device) for value in batch)
    return batch


def _length(batch: Any) -> int:
    """Images of a batch: the length of its first entry."""
    return len(next(iter(batch.values()))) if isinstance(batch, Mapping) else len(batch)


def _memory(device: torch.device) -> tuple[float, str]:
    """Peak memory in GiB: the GPU's where it trains there, else this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30, "GPU"
    return psutil.Process().memory_info().rss / 2**30, "main"
