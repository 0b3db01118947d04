"""The parameters of a model on disk: its best state, and what it was on the way there."""

from __future__ import annotations

from dataclasses import fields

import pandas as pd
import torch
from omegaconf import DictConfig
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kdrec.artifacts import REMAKE, Json, Run, atomic_path, find_run, finished_runs
from kdrec.data.interactions import Split
from kdrec.errors import StorageError
from kdrec.models.base import Scorer, frozen
from kdrec.seeding import torch_stream
from kdrec.share import runs as shared
from kdrec.stages.context import Context, Plain, Record, target_name
from kdrec.stages.instances import instantiate
from kdrec.stages.preprocess import Data
from kdrec.training.loop import FitResult
from kdrec.training.tensors import save_tensors
from kdrec.training.trajectory import State

WEIGHTS = "model.safetensors"


def build(model_cfg: DictConfig, split: Split, seed: int) -> nn.Module:
    """A model with its initial parameters."""
    model: nn.Module = instantiate(model_cfg)(
        train=split.train, generator=torch_stream(seed, "init")
    )
    return model


def checkpoint(number: int) -> str:
    """The file of a state on the way to the best, from 1."""
    return f"checkpoint_{number}.safetensors"


def save_model(record: Record, model: nn.Module, result: FitResult | None) -> Plain:
    """Writes weights, checkpoints and history; returns what the manifest says of the training.

    The last checkpoint is the model itself and has no file of its own.
    """
    save_tensors(record.folder / WEIGHTS, model.state_dict())
    if result is None:
        return {"closed_form": True}
    for number, (_, state) in enumerate(result.trajectory[:-1], start=1):
        save_tensors(record.folder / checkpoint(number), state)
    with atomic_path(record.folder / "history.csv") as path:
        pd.DataFrame(result.history).to_csv(path, index=False)
    summary = {
        field.name: getattr(result, field.name)
        for field in fields(result)
        if field.name not in ("history", "trajectory", "resumed")
    }
    if result.trajectory:
        summary["checkpoints"] = [epoch for epoch, _ in result.trajectory]
    if result.resumed:
        summary["resumed"] = result.resumed
    return summary


def load_model(
    run: Run, model_cfg: DictConfig, data: Data, device: torch.device, *, file: str = WEIGHTS
) -> nn.Module:
    """The trained model of a finished run, or what it was at a checkpoint.

    Raises:
        StorageError: If the weights are missing, damaged, of another model, shape or type, or were
            trained on another split: its training pairs may be what is tested here.
    """
    trained_on, split = run.manifest["labels"]["split"], data.prepared.split.digest
    if trained_on != split:
        raise StorageError(
            f"{run.folder} was trained on the split {trained_on[:12]}, and this is {split[:12]}, "
            f"in {data.folder}.",
            "The same settings gave two splits: run the command again with force=true, "
            "so that both are of one.",
        )
    model = build(model_cfg, data.prepared.split, 0)
    path = run.file(file)
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise StorageError(f"{path} is no readable safetensors file: {error}.", REMAKE) from error
    wrong = misfit(model.state_dict(), state)
    if wrong:
        raise StorageError(
            f"{path} is not of this {target_name(model_cfg)} on this data set: {wrong}.", REMAKE
        )
    model.load_state_dict(state)
    return model.to(device).eval()


def misfit(expected: State, found: State) -> str:
    """In what two states differ, by name, shape and type; empty if one can take the other's place.

    torch alone would take numbers of another type, and round them.
    """
    if expected.keys() != found.keys():
        return f"expected {', '.join(expected)}; found {', '.join(found) or 'nothing'}"
    for name, part in expected.items():
        if (part.shape, part.dtype) != (found[name].shape, found[name].dtype):
            return f"expected {name} {_form(part)}; found {_form(found[name])}"
    return ""


def _form(part: Tensor) -> str:
    return f"{list(part.shape)} {part.dtype}"


def load_trajectory(
    run: Run, model_cfg: DictConfig, data: Data, device: torch.device, last: Scorer
) -> tuple[Scorer, ...]:
    """What the model was at its checkpoints, `last` being the model itself; empty if none."""
    epochs = run.manifest["training"].get("checkpoints", [])
    files = [checkpoint(number) for number in range(1, len(epochs))]
    before = [frozen(load_model(run, model_cfg, data, device, file=file)) for file in files]
    return (*before, last) if epochs else ()


def trained_run(context: Context, identity: str) -> Run | None:
    """The newest finished run of this identity that holds the weights themselves.

    One of another machine is copied here if there is none.
    """
    found = _trained_here(context, identity)
    if found is None and context.share is not None:
        found = shared.bring(
            context.share, context.output_dir, identity, evaluation=None, wanted=_has_weights
        )
    return found


def finished_run(context: Context, identity: str, *, evaluation: str | None = None) -> Run | None:
    """The newest finished run of this identity and evaluation.

    One of another machine is copied here if there is none; if it is an evaluation alone, only with
    the weights that were evaluated.
    """
    found = find_run(context.output_dir, identity, evaluation=evaluation)
    if found is not None or context.share is None:
        return found

    def usable(manifest: Json) -> bool:
        whole = _has_weights(manifest) or _is_of_members(manifest)
        return whole or trained_run(context, identity) is not None

    return shared.bring(
        context.share, context.output_dir, identity, evaluation=evaluation, wanted=usable
    )


def publish(context: Context, run: Run, *, replace: bool = False) -> None:
    """Shows a finished run to other machines, with the weights that were evaluated.

    Args:
        context: Has the share; without one nothing is done.
        run: The run.
        replace: Whether it takes the place of what is shared already.
    """
    if context.share is None:
        return
    if not _has_weights(run.manifest) and not _is_of_members(run.manifest):
        trained = _trained_here(context, run.identity)
        if trained is not None:
            shared.publish(context.share, trained, replace=False)
    shared.publish(context.share, run, replace=replace)


def _trained_here(context: Context, identity: str) -> Run | None:
    found = [
        run for run in finished_runs(context.output_dir, identity) if _has_weights(run.manifest)
    ]
    return max(found, key=lambda run: str(run.manifest["finished"]), default=None)


def _has_weights(manifest: Json) -> bool:
    return WEIGHTS in manifest["artifacts"]


def _is_of_members(manifest: Json) -> bool:
    """Whether it is of an ensemble, which has no weights of its own."""
    return "members" in manifest["training"]
