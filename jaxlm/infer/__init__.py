"""Using a trained model. In: a run folder, a model folder or a Hugging Face folder, and text. Out: text or vectors.

`loaded` opens the folder and makes a `predict.Predictor` of it; `fill_mask` fills gaps, `embed` makes vectors,
`answers` generates text (`frame` what stands around a prompt, `generate` rows on the host, `decode` the loop on the
device, `sampling` the choice of a token). Never needs the corpus.
"""
