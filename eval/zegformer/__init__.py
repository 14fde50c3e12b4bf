"""ZegFormer: inference, ensemble of classifiers, metrics, scoring."""
