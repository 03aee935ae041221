"""What the numbers of a run mean, in a line each: shown by TensorBoard beside their curves. More: docs/metrics.md."""

from collections.abc import Mapping

MEANINGS: Mapping[str, str] = {
    "loss": "nats: the sum of the objective's terms",
    "mlm_loss": "nats per predicted token of masked LM",
    "mlm_accuracy": "share of the predicted tokens that the model names first",
    "lm_loss": "nats per target token; its exponential is the perplexity",
    "lm_accuracy": "share of the target tokens that the model names first",
    "lm_z": "nats per target token, the z-loss",
    "balance": "of experts, times balance_loss; that times experts_per_token where all are used alike",
    "router_z": "mean square of the router's log-sum-exp, times router_z_loss",
    "nsp_loss": "nats per pair, next sentence",
    "nsp_accuracy": "share of the pairs, next sentence",
    "sop_loss": "nats per pair, sentence order",
    "sop_accuracy": "share of the pairs, sentence order",
    "contrastive_loss": "nats per anchor, among all candidates of the global batch",
    "contrastive_accuracy": "share of the anchors whose own positive is the nearest of all candidates",
    "preferences_loss": "per pair of answers: nats, or the square of IPO",
    "preferences_accuracy": "share of the pairs whose chosen answer gained more than the rejected one",
    "margin": "nats: by how much the chosen answer gained more; of IPO and SimPO per token",
    "chosen_gain": "nats: log p of the chosen answer above that of the reference",
    "rejected_gain": "nats: log p of the rejected answer above that of the reference",
    "alignment": "mean squared distance of the two sides of a pair; lower is better",
    "uniformity": "log of the mean of exp(-2 d²) over the pairs of a batch; lower is better",
    "train/skipped_steps": "steps so far whose loss or gradient was not finite; they changed nothing",
    "train/useful_tokens_per_step": "tokens that are not padding",
    "optim/learning_rate": "of the last step",
    "optim/grad_norm": "global norm before clipping, mean over the steps of a line",
    "throughput/useful_tokens_per_second": "padding does not count; compiling, evaluating and saving are left out",
    "throughput/steps_per_second": "compiling, evaluating and saving are left out",
    "throughput/mfu": "model FLOPs / (time x devices x peak)",
    "time/step_s": "seconds of a step, mean",
    "time/data_wait_s": "seconds per step that the loop waited for data",
    "time/data_wait_share": "share of the time that the loop waited for data",
    "time/evaluation_s": "seconds of one evaluation",
}
_OF = {"train": "mean over the steps since the last line", "eval": "on held-out text"}


def meaning(name: str) -> str:
    """Of a metric; '' for one that is not known, such as a recipe's own."""
    if name in MEANINGS:
        return MEANINGS[name]
    kind, _, measure = name.partition("/")
    known = MEANINGS.get(measure.rpartition("/")[2], "")  # of one of several tasks, or sources, too
    return f"{known}; {_OF[kind]}" if known and kind in _OF else ""
