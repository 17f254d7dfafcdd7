"""`finllm attack`: what the narrative room makes of attacks, family by family."""
