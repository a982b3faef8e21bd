"""What runs at a site: the only room that imports DeepSpeed and PEFT. It knows nothing of FLARE."""
