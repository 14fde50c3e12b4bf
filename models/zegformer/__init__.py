"""ZegFormer: network, published key layout, configuration."""
