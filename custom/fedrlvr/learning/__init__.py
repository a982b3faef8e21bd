"""Reinforcement learning at one site: engine, sampler, step, trainer. DeepSpeed and PEFT are imported only here."""
