"""The process a run lives in: signals, hosts, compilation cache, hangs, injected faults.

In: the environment. Out: a process that stops at a step boundary when asked, agrees with its peers, and ends
with an exit code that says whether to restart. Guarantee: importing any module here touches no accelerator.
"""
