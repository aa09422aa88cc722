"""Where liquidations would cluster: maps, clusters with an identity, their signals and their proof."""
