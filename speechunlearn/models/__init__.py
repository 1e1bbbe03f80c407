"""The classifier, training, the faster computation, several processes."""
