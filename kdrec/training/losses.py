"""The losses of an epoch, step by step, and what to do when one is not finite."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kdrec.errors import KdrecError

PARTS = ("loss", "distillation")


class DivergedError(KdrecError):
    """A training whose loss is not finite any more; it would diverge again."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What one epoch cost.

    Args:
        steps: Data and distillation loss of each step. Shape [2, n_steps], float32.
        ratio: Norm of the distillation gradient over that of the data's; 0 if not compared.
    """

    steps: npt.NDArray[np.float32]
    ratio: float

    def means(self) -> dict[str, float]:
        """Of both parts over the steps, and the ratio.

        Sums are taken from the first step to the last, so that their last digit does not depend on
        how a library adds.
        """
        sums = np.add.accumulate(self.steps, axis=1)[:, -1]
        means = sums / np.float32(self.steps.shape[1])
        return {**dict(zip(PARTS, means.tolist(), strict=True)), "gradient_ratio": self.ratio}

    def check(self, name: str, epoch: int, *, lr: float, lr_factor: float, weight: float) -> None:
        """Refuses to go on where a loss is NaN or infinite.

        Args:
            name: Whose losses.
            epoch: From 1.
            lr: Learning rate.
            lr_factor: What it is multiplied by.
            weight: Of the distillation loss.

        Raises:
            DivergedError: With the first such batch, and the setting that is the likely cause.
        """
        bad = ~np.isfinite(self.steps)
        if not bad.any():
            return
        step = int(bad.any(0).argmax())
        data, distilled = self.steps[:, step]
        what = (
            f"{name}: the loss is not finite in epoch {epoch}, batch {step + 1} of "
            f"{self.steps.shape[1]} (data {data:g}, distillation {distilled:g})."
        )
        rate = f"lr={lr:g}" + (f", times fit.lr_factor={lr_factor:g}" if lr_factor != 1 else "")
        if epoch == 1 and step == 0:
            hint = (
                "Nothing has been learnt yet: look at the options of the method and at the scores "
                "of the teacher."
                if bad[1, step]
                else "Nothing has been learnt yet: look at the options of the model."
            )
        elif not bad[0, step]:
            hint = f"Lower the distillation weight ({weight:g}), or the learning rate ({rate})."
        elif weight > 0:
            hint = f"Lower the learning rate ({rate}), or the distillation weight ({weight:g})."
        else:
            hint = f"Lower the learning rate ({rate})."
        raise DivergedError(what, hint)
