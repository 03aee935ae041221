"""How the programs of tests are compiled: compiling is most of a test's time, and no claim needs fast programs."""

from importlib import metadata

# LLVM's expensive passes double the CPU time of a test.
CHEAP = {
    "xla_backend_optimization_level": "0",
    "xla_llvm_disable_expensive_passes": "true",
    "xla_cpu_parallel_codegen_split_count": "1",
}
# The emitters of fused loops alone double that of a run's first start. jaxlib 0.11 ends a process that names this flag.
if tuple(map(int, metadata.version("jaxlib").split(".")[:2])) < (0, 11):
    CHEAP["xla_cpu_use_fusion_emitters"] = "false"


def flags(devices: int, given: str = "") -> str:
    """XLA_FLAGS for so many virtual devices; what is given wins."""
    ours = {"xla_force_host_platform_device_count": str(devices), **CHEAP}
    return " ".join([given, *(f"--{k}={v}" for k, v in ours.items() if k not in given)]).strip()
