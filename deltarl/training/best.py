"""The policy of the best evaluation."""

from __future__ import annotations

import logging
import math
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from deltarl import disk
from deltarl.checkpoints import checkpoint
from deltarl.checkpoints.store import Store
from deltarl.errors import NonFiniteError
from deltarl.training import folder as files
from deltarl.training import formats
from deltarl.training.evaluation import Evaluation
from deltarl.training.finite import check_tensors

log = logging.getLogger(__name__)


class Best:
    """Keeps the policy of the best evaluation, with its normaliser."""

    def __init__(self, store: Store, folder: Path, model: BaseAlgorithm, normalizer: VecNormalize | None) -> None:
        self.store, self.model, self.normalizer = store, model, normalizer
        known = checkpoint.best(folder)
        self.score = -math.inf if known is None else float(known.manifest["return_mean"])

    def offer(self, steps: int, evaluation: Evaluation) -> None:
        """Store the current policy if its mean return is the highest so far.

        Raises:
            NonFiniteError: if the return, or the policy, is NaN or infinite.
        """
        if not math.isfinite(evaluation.return_mean):
            raise NonFiniteError(f"step {steps:,}: the mean return of the evaluation is {evaluation.return_mean}")
        if evaluation.return_mean <= self.score:
            return
        check_tensors(steps, self.model.policy.state_dict().items())
        facts = {"return_mean": evaluation.return_mean, "success_rate": evaluation.success_rate}
        try:
            self.store.write_best(steps, self._write, facts)
        except Exception as error:
            if not isinstance(error, OSError) and not disk.is_full(error):
                raise
            log.warning("the best policy, of step %s, could not be stored: %s", f"{steps:,}", error)
            return
        self.score = evaluation.return_mean

    def _write(self, folder: Path) -> None:
        formats.save_policy(self.model.policy, folder / files.POLICY)
        if self.normalizer is not None:
            formats.save_normalizer(self.normalizer, folder / files.NORMALIZER)
