"""The training loop, for any network: steps, precision, averages, checkpoints, resuming.

A training is determined by its seed: what happens in step n depends on the seed, n and the weights
alone, so a run that is killed and taken up again ends with the weights of an uninterrupted one (on
the CPU bit by bit).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from data import weight_files
from data.errors import DivergenceError, OutOfMemoryError
from train import checkpoint
from train.distributed import World, unwrap_ddp, wrap_ddp
from train.history import History
from train.schedule import Schedule, set_rates

log = logging.getLogger(__name__)

Loss = Callable[[nn.Module, Any], Mapping[str, Tensor]]
Evaluate = Callable[[nn.Module], Mapping[str, float]]
Batches = Callable[[int], Iterator[Any]]


@dataclass(frozen=True)
class Settings:
    """How a training is run, whatever it trains.

    Attributes
    ----------
    out : folder of checkpoints, history and TensorBoard files
    steps : optimiser steps of the whole training
    seed : decides every random choice
    autocast : "none", "bf16" or "fp16" (fp16 scales the loss, on a GPU)
    accumulate : batches whose mean gradient makes one step
    clip_norm : largest 2-norm of all gradients together; None leaves them
    ema : decay per step of the exponential average of the weights; 0 keeps none
    channels_last, compile, sync_batchnorm, find_unused : how the network is laid out and wrapped
    save_every, evaluate_every, log_every : in steps; 0 means only at the end
    select : name of the evaluation figure whose largest value marks the best weights
    identity : what a resumed training must share with the first (see `checkpoint.load`)
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
    """One training: network, optimiser and everything that changes while it runs.

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
        self.step, self.best = 0, -math.inf
        self.history = History(settings.out, enabled=world.is_first)

    @property
    def eval_model(self) -> nn.Module:
        """The network that is evaluated and published: the average where there is one."""
        return self.model if self.average is None else self.average.get_submodule("module")

    def resume(self, path: str | Path) -> None:
        """Go on from a checkpoint of the same training.

        Raises
        ------
        WeightsError
            Unreadable, or of another training.
        """
        content = checkpoint.load(path, identity=self.settings.identity)
        self.model.load_state_dict(content["state_dict"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.scaler.load_state_dict(content["scaler"])
        self.step, self.best = content["step"], content["best"]
        self.history.cut(self.step)
        log.info("%s: going on after step %d of %d", path, self.step, self.settings.steps)

    def run(self, batches: Batches, evaluate: Evaluate | None = None) -> None:
        """Train from the present step to the last.

        Parameters
        ----------
        batches : n -> iterator over the batches from number n on
        evaluate : network in evaluation mode -> figures; called by every process

        Raises
        ------
        DivergenceError, OutOfMemoryError
        """
        stream = batches(self.step * self.settings.accumulate)
        try:
            while self.step < self.settings.steps:
                self._take_step(stream)
                last = self.step == self.settings.steps
                if evaluate and (last or _due(self.step, self.settings.evaluate_every)):
                    self._evaluate(evaluate)
                if last or _due(self.step, self.settings.save_every):
                    self.save()
        finally:
            self.history.close()
        if self.world.is_first:
            weight_files.write_safetensors(
                self.settings.out / checkpoint.FINAL,
                self.eval_model.state_dict(),
                self.settings.recipe,
            )

    def _take_step(self, stream: Iterator[Any]) -> None:
        self._seed_step()
        set_rates(self.optimizer, self.schedule(self.step))
        self.model.train()
        terms = self._gradients(stream)
        self._update()
        self.step += 1
        self.history.add(self.step, {"lr": self.optimizer.param_groups[0]["lr"], **terms})
        if _due(self.step, self.settings.log_every) or self.step == self.settings.steps:
            shown = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
            log.info("step %d of %d: %s", self.step, self.settings.steps, shown)

    def _seed_step(self) -> None:
        numbers = [self.settings.seed, self.step, self.world.rank]
        torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))

    def _gradients(self, stream: Iterator[Any]) -> dict[str, float]:
        """Leave the mean gradient of the accumulated batches on the parameters.

        Returns the mean loss terms of this process.
        """
        n, sums = self.settings.accumulate, dict[str, float]()
        self.optimizer.zero_grad(set_to_none=True)
        for number in range(n):
            batch = next(stream)
            hold_back = self.world.size > 1 and number < n - 1
            try:
                with self.compiled.no_sync() if hold_back else nullcontext():
                    with self._autocast():
                        terms = self.loss(self.compiled, _to(batch, self.world.device))
                    self._check(terms, batch)
                    self.scaler.scale(terms["total"] / n).backward()
            except torch.OutOfMemoryError as error:
                raise OutOfMemoryError(
                    f"{self.world.device}: not enough memory in step {self.step}. Try "
                    f"{self.settings.memory_advice}. ({str(error).splitlines()[0]})"
                ) from error
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / n
        return sums

    def _autocast(self):
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        if self.settings.autocast == "none":
            return nullcontext()
        return torch.autocast(self.world.device.type, kinds[self.settings.autocast])

    def _check(self, terms: Mapping[str, Tensor], batch: Any) -> None:
        if torch.isfinite(terms["total"].detach()):
            return
        values = {name: float(value.detach()) for name, value in terms.items()}
        path = self.settings.out / f"nonfinite_step_{self.step}_rank_{self.world.rank}.pt"
        checkpoint.save(path, {"step": self.step, "terms": values, "batch": batch})
        raise DivergenceError(
            f"loss is not finite in step {self.step}: {values}. The batch is in {path}; weights up "
            f"to the last save are in {self.settings.out / checkpoint.LATEST}. A smaller learning "
            "rate, clipped gradients or no fp16 are the usual remedies"
        )

    def _update(self) -> None:
        self.scaler.unscale_(self.optimizer)
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def _evaluate(self, evaluate: Evaluate) -> None:
        evaluated = self.eval_model.eval()
        with torch.no_grad():
            figures = dict(evaluate(evaluated))
        self.history.add(self.step, figures)
        score = figures.get(self.settings.select, -math.inf)
        if score > self.best:
            self.best = float(score)
            if self.world.is_first:
                recipe = {**self.settings.recipe, "step": self.step, **figures}
                path = self.settings.out / checkpoint.BEST
                weight_files.write_safetensors(path, evaluated.state_dict(), recipe)
        log.info("after step %d: %s", self.step, figures)

    def save(self) -> None:
        """Write the checkpoint from which `resume` goes on; the first process does."""
        if not self.world.is_first:
            return
        content = {
            "step": self.step,
            "state_dict": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
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
