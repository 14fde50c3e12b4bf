"""Floor 3: networks with their published key layouts."""
