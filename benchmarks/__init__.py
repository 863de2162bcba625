"""Speed of every operator against what a user could run instead; see `python -m benchmarks -h`.

registry.py     what a case is, and all of them by name
runner.py       correctness gate, interleaved timing, rates, shares of the machine's bound
machine.py      which machine, its measured bounds, versions, commit
report.py       table, CSV and plot
gpu.py          a run on a GPU: tests, sanitizers and cases, each a process
gpu_docs.py     what ran on which card, into docs/gpu.md, `python -m benchmarks.gpu_docs`
timers.py       wall clock, CUDA events, CUDA graphs
compile.py      what the GPU kernels take, without a GPU, `python -m benchmarks.compile`
images.py       sample photographs          memory.py   peak memory of a call
cases/          one file an operator family: sizes and peers of each case
peers/          one file an operator family: the code a user would write without fastseg
quality.py      scores on pictures with masks, `python -m benchmarks.quality`
results/        one folder a machine
"""
