"""Models behind HTTP. In: models by name, requests of the clients that people have. Out: their answers.

A request is read (`fields`), done by what `infer` and `tasks` do anyway (`uses`), and said in the words of its client
(`openai`, `chat`, `tei`, `kserve`). What is computed waits in one queue for company of its length (`device`); what is
written, in a `writer`. Guaranteed: a request that was accepted is answered, also while the server is being stopped;
what cannot be taken is refused at once, with a reason; an answer does not depend on who else asks; no text is logged.
"""
