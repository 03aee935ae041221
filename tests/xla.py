"""How the programs of tests are compiled: compiling is most of a test's time, and no claim needs fast programs."""

# The emitters of fused loops alone double the CPU time of a run's first start, LLVM's expensive passes that of a test.
CHEAP = {
    "xla_backend_optimization_level": "0",
    "xla_llvm_disable_expensive_passes": "true",
    "xla_cpu_use_fusion_emitters": "false",
    "xla_cpu_parallel_codegen_split_count": "1",
}


def flags(devices: int, given: str = "") -> str:
    """XLA_FLAGS for so many virtual devices; what is given wins."""
    ours = {"xla_force_host_platform_device_count": str(devices), **CHEAP}
    return " ".join([given, *(f"--{k}={v}" for k, v in ours.items() if k not in given)]).strip()
