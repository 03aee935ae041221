"""What a run reports.

In: measures of steps as (sum, weight) on the devices, and facts about the run. Out: `metrics.jsonl`,
TensorBoard, optionally Weights & Biases, a live line or plain lines on the console and in `run.log`, the time that is
left.
Guarantees: the host never waits for the step just dispatched; after a resume no value is missing or written
twice, and the means are the same bits as in a run that was not interrupted; a broken tracker never stops
training.
"""
