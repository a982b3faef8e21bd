"""Reinforcement learning at one site: engine, sampler, step, trainer. The only room that imports DeepSpeed and PEFT."""
