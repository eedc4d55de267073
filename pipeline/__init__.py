"""The domain of reelmill: sources, video, backbones, heads, metrics, stages. Only `runner` imports ray."""
