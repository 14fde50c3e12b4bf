"""Floor 4: protocols, metrics, fusion, inference on own pictures, figures."""
